import { assertEquals, assertStringIncludes } from "@std/assert";
import { keepLoopbackOffProxies } from "./proxy.ts";

function exceptionsAfter(before: Record<string, string>): string | undefined {
  const env = new Map(Object.entries(before));
  keepLoopbackOffProxies({ get: (name) => env.get(name), set: (name, value) => void env.set(name, value) });
  return env.get("NO_PROXY");
}

Deno.test("loopback is excepted from proxies beside what was excepted before", () => {
  assertEquals(exceptionsAfter({}), "localhost,127.0.0.0/8,::1");
  assertEquals(exceptionsAfter({ NO_PROXY: "mac.local,localhost" }), "mac.local,localhost,127.0.0.0/8,::1");
  assertEquals(exceptionsAfter({ no_proxy: "mac.local" }), "mac.local,localhost,127.0.0.0/8,::1");
});

Deno.test("a call to loopback does not reach the proxy", async () => {
  await using proxied = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("proxy"),
  );
  await using direct = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("direct"),
  );
  const program = `
    import { keepLoopbackOffProxies } from ${JSON.stringify(new URL("./proxy.ts", import.meta.url).href)};
    keepLoopbackOffProxies();
    console.log(await (await fetch("http://127.0.0.1:${direct.addr.port}/")).text());`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "-q", "--no-check", program],
    env: { HTTP_PROXY: `http://127.0.0.1:${proxied.addr.port}`, NO_PROXY: "", no_proxy: "" },
  }).output();
  assertStringIncludes(new TextDecoder().decode(stdout), "direct", new TextDecoder().decode(stderr));
});

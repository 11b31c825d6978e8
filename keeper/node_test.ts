import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { loadConfig } from "../home/config.ts";
import { RbeeError } from "../protocol/errors.ts";
import { resolveNode } from "./node.ts";
import { queenOf } from "./queen.ts";

/** A home with a configuration and files, and the way to resolve names in it. */
async function home(config: unknown, files: Record<string, unknown> = {}) {
  const path = await Deno.makeTempDir({ prefix: "rbee-node-" });
  await Deno.writeTextFile(join(path, "config.yaml"), JSON.stringify(config));
  for (const [name, content] of Object.entries(files)) {
    const text = typeof content === "string" ? content : JSON.stringify(content);
    await Deno.writeTextFile(join(path, name), text, { mode: 0o600 });
  }
  return {
    path,
    resolve: async (name: string) =>
      await resolveNode(name, await loadConfig({ env: { get: (key) => ({ RBEE_HOME: path })[key] } })),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

Deno.test("a configured name gives its url and its own key", async () => {
  await using place = await home({});
  const keyFile = join(place.path, "mac.key");
  await Deno.writeTextFile(keyFile, "the-key-of-mac\n", { mode: 0o600 });
  await Deno.writeTextFile(
    join(place.path, "config.yaml"),
    JSON.stringify({ nodes: { mac: { url: "http://10.0.0.2:9300/", api_key_file: keyFile } } }),
  );
  assertEquals(await place.resolve("mac"), {
    name: "mac",
    url: "http://10.0.0.2:9300",
    apiKey: "the-key-of-mac",
    keySource: keyFile,
    keySetting: "nodes.mac.api_key_file",
    local: false,
  });
});

Deno.test("this home's key is for this machine alone, whatever an address without a key of its own is called", async () => {
  const nodes = { mac: { url: "http://10.0.0.2:9300" }, here: { url: "http://127.0.0.1:9300" } };
  await using place = await home({ nodes }, { api_key: "the-home-key\n" });
  for (const name of ["here", "127.0.0.1:9300", "[::1]", "localhost"]) {
    const node = await place.resolve(name);
    assertEquals([node.apiKey, node.keySource], ["the-home-key", join(place.path, "api_key")], name);
  }
  for (const [name, setting] of [["mac", "nodes.mac.api_key_file"], ["10.0.0.2"], ["mac.lan"]]) {
    const node = await place.resolve(name);
    assertEquals([node.apiKey, node.keySetting], [undefined, setting], name);
  }
});

Deno.test("a queen on another machine gets a key that is configured for it, and no other", async () => {
  const keyOf = async (url: string, keeper: Record<string, unknown> = {}) => {
    await using place = await home({ keeper }, {
      api_key: "the-home-key\n",
      "queen.key": "the-queens-key\n",
    });
    const queen_key_file = keeper.queen_key_file && join(place.path, "queen.key");
    await Deno.writeTextFile(
      join(place.path, "config.yaml"),
      JSON.stringify({ keeper: { ...keeper, queen_key_file } }),
    );
    const config = await loadConfig({ env: { get: (key) => ({ RBEE_HOME: place.path })[key] } });
    return (await queenOf({ queen: url }, config))!.apiKey;
  };
  assertEquals(await keyOf("http://127.0.0.1:8080"), "the-home-key");
  assertEquals(await keyOf("http://queen.lan:8080"), undefined);
  assertEquals(await keyOf("http://queen.lan:8080", { queen_key_file: true }), "the-queens-key");
});

Deno.test("localhost is where the running hive says it is", async () => {
  const running = { pid: 1, url: "http://127.0.0.1:12345", version: "0.1.0", started_unix: 1 };
  await using place = await home({}, { "hive.json": running });
  const node = await place.resolve("localhost");
  assertEquals([node.url, node.local, node.apiKey], ["http://127.0.0.1:12345", true, undefined]);
});

Deno.test("localhost without a running hive is where one would listen, wildcards made callable", async () => {
  const urlFor = async (listen: string) => {
    await using place = await home({ hive: { listen } }, { "hive.json": "half a f" });
    return (await place.resolve("localhost")).url;
  };
  assertEquals(await urlFor("127.0.0.1:9201"), "http://127.0.0.1:9201");
  assertEquals(await urlFor("0.0.0.0:9201"), "http://127.0.0.1:9201");
  assertEquals(await urlFor("[::]:9201"), "http://[::1]:9201");
});

Deno.test("an address needs no configuration; without a port it has the default one", async () => {
  await using place = await home({});
  const urlOf = async (name: string) => (await place.resolve(name)).url;
  assertEquals(await urlOf("10.1.2.3"), "http://10.1.2.3:9200");
  assertEquals(await urlOf("blep:9300"), "http://blep:9300");
  assertEquals(await urlOf("blep.lan"), "http://blep.lan:9200");
  assertEquals(await urlOf("[fd00::1]:9300"), "http://[fd00::1]:9300");
  assertEquals((await place.resolve("localhost:9200")).local, false);
});

Deno.test("a name that is not known is told apart from a host that does not answer", async () => {
  await using place = await home({ nodes: { workstation: { url: "http://10.0.0.2:9200" } } });
  const error = await assertRejects(() => place.resolve("worksation"), RbeeError);
  assertEquals(error.code, "NODE_NOT_FOUND");
  assertEquals(error.message, 'There is no node "worksation". Did you mean workstation?');
  assertEquals(error.details.known, ["localhost", "workstation"]);
  for (const name of ["toString", "bad host", "host:99999", "a/b", ""]) {
    assertEquals((await assertRejects(() => place.resolve(name), RbeeError)).code, "NODE_NOT_FOUND", name);
  }
});

import { assertEquals, assertStringIncludes } from "@std/assert";
import { MAX_AUTH_HEADER_BYTES } from "../protocol/limits.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { rawExchange } from "../tests/helpers/raw_http.ts";
import { secretsEqual } from "./auth.ts";
import { startServer } from "./lifecycle.ts";
import { createApp } from "./serve.ts";

const KEY = "rbee-the-right-key_1";

function guardedApp() {
  const kept = keptLog();
  const app = createApp({
    apiKey: KEY,
    log: kept.log,
    routes: [
      { spec: { method: "GET", path: "/guarded" }, handle: () => Response.json({ in: true }) },
      { spec: { method: "GET", path: "/open", auth: "none" }, handle: () => Response.json({ in: true }) },
      { spec: { method: "POST", path: "/token", auth: "token" }, handle: () => Response.json({ in: true }) },
    ],
  });
  return { app, ...kept };
}

/** Status, code and challenge that a request with this header gets. */
async function verdict(authorization: string | undefined, path = "/guarded"): Promise<string> {
  const { app, text } = guardedApp();
  const headers = new Headers();
  if (authorization !== undefined) headers.set("Authorization", authorization);
  const response = await app(new Request(`http://host${path}`, { headers }));
  const body = await response.text();
  assertEquals(body.includes(KEY) || text().includes(KEY), false, "the key was shown");
  const challenge = response.headers.get("WWW-Authenticate");
  return [response.status, JSON.parse(body).error?.code, challenge].filter((it) => it).join(" ");
}

Deno.test("the right key opens, in exactly one form", async () => {
  assertEquals(await verdict(`Bearer ${KEY}`), "200");
  assertEquals(await verdict(`Bearer ${KEY} \t`), "200", "the space after a header's value is HTTP's own");
});

Deno.test("no bearer at all is a missing key: the scheme is case-sensitive and followed by a space", async () => {
  for (
    const header of [
      undefined,
      "",
      "Bearer",
      "Bearer ",
      `bearer ${KEY}`,
      `BEARER ${KEY}`,
      `Basic ${KEY}`,
      `Token ${KEY}`,
      `Bearer${KEY}`,
      `Bearer:${KEY}`,
      KEY,
      `x Bearer ${KEY}`,
    ]
  ) {
    assertEquals(await verdict(header), "401 MISSING_API_KEY Bearer", `${header}`);
  }
});

Deno.test("any other bearer is a wrong key: longer, shorter, quoted, spaced, doubled", async () => {
  for (
    const bearer of [
      "x",
      ` ${KEY}`,
      `${KEY}x`,
      KEY.slice(1),
      KEY.slice(0, -1),
      KEY.toUpperCase(),
      `"${KEY}"`,
      `${KEY},`,
      `${KEY} x`,
      `${KEY}, Bearer ${KEY}`,
      "é".repeat(20),
    ]
  ) {
    assertEquals(await verdict(`Bearer ${bearer}`), "401 INVALID_API_KEY Bearer", bearer);
  }
});

Deno.test("two Authorization headers do not add up to a right one", async () => {
  const headers = new Headers([["Authorization", `Bearer ${KEY}`], ["Authorization", `Bearer ${KEY}`]]);
  const response = await guardedApp().app(new Request("http://host/guarded", { headers }));
  assertEquals((await response.json()).error.code, "INVALID_API_KEY");
});

Deno.test("a header of 8 KB is looked at, one byte more is refused", async () => {
  const longest = "Bearer ".padEnd(MAX_AUTH_HEADER_BYTES, "k");
  assertEquals(await verdict(longest), "401 INVALID_API_KEY Bearer");
  assertEquals(await verdict(longest + "k"), "400 INVALID_REQUEST");
  assertEquals(await verdict("x".repeat(MAX_AUTH_HEADER_BYTES + 1)), "400 INVALID_REQUEST");
});

Deno.test("a header with a control character is refused, before its key is compared", async () => {
  assertEquals(await verdict(`Bearer ${KEY}\tx`), "400 INVALID_REQUEST");
  assertEquals(await verdict(`Bearer\t${KEY}`), "400 INVALID_REQUEST");
});

Deno.test("over a socket, control characters, huge headers and odd bytes in the header are 4xx, never let in", async () => {
  const { app, log, lines } = guardedApp();
  const server = startServer(app, { listen: { hostname: "127.0.0.1", port: 0 }, log });
  const status = async (authorization: string) => {
    const request = `GET /guarded HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\n\r\n`;
    return (await rawExchange(server.address.port, request))?.status;
  };
  assertEquals(await status(`Bearer ${KEY}`), 200);
  for (const char of ["\x00", "\x01", "\t", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f"]) {
    assertEquals(await status(`Bearer ${KEY}${char}x`), 400, JSON.stringify(char));
  }
  assertEquals(await status(`Bearer ${"k".repeat(9000)}`), 400);
  // The server hangs up on this one; whether its answer comes through is the network's affair.
  assertEquals([400, 431, undefined].includes(await status(`Bearer ${"k".repeat(2_000_000)}`)), true);
  assertEquals(await status(`Bearer ${KEY}\xe9`), 401);
  assertEquals(lines.filter(({ level }) => level === "error"), []);
  await server.close();
});

Deno.test("open routes ask for nothing and mind nothing; token routes leave the check to their handler", async () => {
  for (const header of [undefined, "Bearer wrong", "nonsense", "x".repeat(9000)]) {
    assertEquals(await verdict(header, "/open"), "200");
  }
  const response = await guardedApp().app(new Request("http://host/token", { method: "POST" }));
  assertEquals(response.status, 200);
});

Deno.test("who has no key does not learn which routes there are", async () => {
  const { app } = guardedApp();
  for (
    const [method, path] of [["GET", "/nowhere"], ["POST", "/guarded"], ["PUT", "/nowhere"], ["DELETE", "/"]]
  ) {
    const response = await app(new Request(`http://host${path}`, { method }));
    assertEquals([response.status, (await response.json()).error.code], [401, "MISSING_API_KEY"]);
    assertEquals(response.headers.get("Allow"), null);
  }
});

Deno.test("the answers say what to send, not what was sent", async () => {
  const { app } = guardedApp();
  const headers = { Authorization: "Bearer some-wrong-key" };
  const wrong = await (await app(new Request("http://host/guarded", { headers }))).text();
  assertEquals(wrong.includes("some-wrong-key"), false);
  const missing = await (await app(new Request("http://host/guarded"))).json();
  assertStringIncludes(missing.error.message, "Authorization: Bearer KEY");
});

Deno.test("secrets are equal only when they are, whatever their lengths", () => {
  assertEquals(secretsEqual("abc", "abc"), true);
  for (const [a, b] of [["abc", "abd"], ["abc", "ab"], ["", "a"], ["abc", "ABC"], ["é", "e\u0301"]]) {
    assertEquals(secretsEqual(a, b), false, `${a} ${b}`);
  }
});

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { HubHttp } from "./hub_http.ts";
import { MAX_HUB_ANSWER_BYTES, MODEL_LIMITS } from "./limits.ts";
import { AttemptFailed } from "./retry_plan.ts";
import { fetchError, REF, startBed } from "./models_test_bed.ts";

/** A hub whose every answer is made by `reply`; the requests that arrived are kept. */
function fakeHub(reply: (url: URL) => Response) {
  const asked: { url: string; token: string | null }[] = [];
  const hub = new HubHttp({
    endpoint: "https://hub.test/mirror/",
    token: { value: "secret", source: "HF_TOKEN" },
    limits: MODEL_LIMITS,
    fetch(url, init) {
      asked.push({ url: url.href, token: new Headers(init.headers).get("Authorization") });
      return Promise.resolve(reply(url));
    },
  });
  const get = () => hub.getJson(hub.url("/api/x"), { signal: new AbortController().signal, what: "x" });
  return { asked, get };
}

function redirect(location: string): Response {
  return new Response(null, { status: 302, headers: { Location: location } });
}

Deno.test("the endpoint may have a path", async () => {
  const { asked, get } = fakeHub(() => Response.json({ fine: true }));
  assertEquals((await get()).json, { fine: true });
  assertEquals(asked, [{ url: "https://hub.test/mirror/api/x", token: "Bearer secret" }]);
});

Deno.test("the token is left behind at every other origin, and taken up again at home", async () => {
  const hops = ["https://cdn.test/a", "http://hub.test/b", "https://hub.test:8443/c", "https://hub.test/d"];
  let hop = 0;
  const { asked, get } = fakeHub(() => hop < hops.length ? redirect(hops[hop++]) : Response.json(1));
  await get();
  const home = "Bearer secret";
  assertEquals(asked.map(({ token }) => token), [home, null, null, null, home]);
});

Deno.test("redirects have an end, and lead to web addresses only", async () => {
  const circle = fakeHub(() => redirect("/again"));
  assertStringIncludes((await assertRejects(circle.get, RbeeError)).message, "more than 5 times");
  assertEquals(circle.asked.length, 6);
  for (const location of ["file:///etc/passwd", "data:application/json,1", "http://"]) {
    const error = await assertRejects(fakeHub(() => redirect(location)).get, RbeeError);
    assertStringIncludes(error.message, "no web address");
  }
});

Deno.test("an answer that never ends is cut off", async () => {
  const piece = new Uint8Array(1024 * 1024);
  let pulled = 0;
  const endless = new ReadableStream({
    pull(controller) {
      pulled++;
      controller.enqueue(piece);
    },
  });
  const error = await assertRejects(fakeHub(() => new Response(endless)).get, RbeeError);
  assertStringIncludes(error.message, `larger than ${MAX_HUB_ANSWER_BYTES}`);
  assertEquals(pulled <= MAX_HUB_ANSWER_BYTES / piece.length + 2, true);
});

Deno.test("an answer that is no JSON is not tried again", async () => {
  const error = await assertRejects(fakeHub(() => new Response("<html>")).get, RbeeError);
  assertEquals(error.code, "DOWNLOAD_FAILED");
});

Deno.test("no message shows a signed address", async () => {
  const hub = new HubHttp({
    ...{ endpoint: "https://hub.test", token: undefined, limits: MODEL_LIMITS },
    fetch: () =>
      Promise.reject(new TypeError("error sending request for url (https://cdn.test/x?Signature=s): reset")),
  });
  const signal = new AbortController().signal;
  const failed = await assertRejects(() => hub.getJson(hub.url("/"), { signal, what: "x" }), AttemptFailed);
  assertEquals(failed.failure, { kind: "network", reason: "reset" });
});

for (
  const [what, answers] of Object.entries({
    "no commit": [{}],
    "a commit that is a path": [{ sha: "../../../../etc" }],
    "no list": [{ sha: "0".repeat(40) }, { files: [] }],
  })
) {
  Deno.test(`a hub that names ${what} is DOWNLOAD_FAILED`, async () => {
    let answer = 0;
    const fetch = () => Promise.resolve(Response.json(answers[answer++]));
    await using bed = await startBed({ models: { fetch } });
    assertEquals((await fetchError(bed.models, REF)).code, "DOWNLOAD_FAILED");
  });
}

Deno.test("entries of the list that make no sense are passed over", async () => {
  const sha = "0".repeat(40);
  const entries = [null, 7, { type: "file" }, { type: "file", path: "m-Q4_0.gguf", size: -1, oid: sha }, {
    ...{ type: "file", path: "m-Q8_0.gguf", size: 1e300, oid: sha },
  }, { type: "file", path: "m-F16.gguf", size: 1, oid: "../x" }];
  const answers = [{ sha }, entries];
  await using bed = await startBed({
    models: { fetch: () => Promise.resolve(Response.json(answers.shift())) },
  });
  const error = await fetchError(bed.models, REF);
  assertEquals([error.code, error.details.available], ["MODEL_NOT_FOUND", []]);
});

Deno.test("a list without end is DOWNLOAD_FAILED", async () => {
  let asked = 0;
  const fetch = (url: URL) => {
    const headers = { Link: `<${url}&x=${asked++}>; rel="next"` };
    return Promise.resolve(
      url.pathname.includes("/tree/")
        ? Response.json([], { headers })
        : Response.json({ sha: "0".repeat(40) }),
    );
  };
  await using bed = await startBed({ models: { fetch } });
  const error = await fetchError(bed.models, REF);
  assertStringIncludes(error.message, "more than 100 pages");
  assertEquals(asked, 101);
});

Deno.test("silence in mid-answer ends it, also where fetch itself does not pass the abort on to the body", async () => {
  const left = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode("[")),
    cancel: () => left.resolve(),
  });
  const hub = new HubHttp({
    endpoint: "https://hub.test/",
    token: undefined,
    limits: { ...MODEL_LIMITS, stallTimeoutMs: 20 },
    fetch: () => Promise.resolve(new Response(body)),
  });
  const error = await assertRejects(
    () => hub.getJson(hub.url("/api/x"), { signal: new AbortController().signal, what: "x" }),
    AttemptFailed,
  );
  assertEquals(error.error.code, "DOWNLOAD_TIMEOUT");
  await left.promise;
});

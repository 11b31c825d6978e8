/** The hive's routes: what they answer, and that bad input is an error of the caller and never one of the hive. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { ErrorEnvelopeSchema } from "../protocol/errors.ts";
import { CapabilitiesResponse, DownloadEvent, ModelsResponse } from "../protocol/hive_schemas.ts";
import { MAX_CONTROL_BODY_BYTES } from "../protocol/limits.ts";
import { HIVE_ROUTES, routePath, type RouteSpec } from "../protocol/routes.ts";
import { readEvents } from "../protocol/sse.ts";
import { startHub } from "../tests/helpers/hub.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { STORIES } from "../tests/helpers/test_models.ts";
import { type TestHive, testHive } from "../tests/helpers/test_hive.ts";

const ROUTES: [string, RouteSpec][] = Object.entries(HIVE_ROUTES);
const POSTS = ROUTES.filter(([, { method }]) => method === "POST");

async function withHive(test: (hive: TestHive) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using hub = await startHub({
    repos: {
      "acme/bee": { files: { "bee-Q8_0.gguf": { path: STORIES }, "junk-F16.gguf": { generate: 5_000 } } },
    },
  });
  await using hive = await testHive({ home: home.rbeeHome, hub: hub.url });
  await test(hive);
}

function pathOf(spec: RouteSpec): string {
  return routePath(spec, { id: "nothing", ref: "builtin:stories", digest: "0".repeat(64) });
}

function ask(
  hive: TestHive,
  path: string,
  init: RequestInit & { key?: string | null } = {},
): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = init.key === undefined ? hive.key : init.key;
  if (key !== null) headers.set("Authorization", `Bearer ${key}`);
  return hive.app(new Request(`http://hive${path}`, { ...init, headers }));
}

/** Checks that an answer is an honest error and returns its code. */
async function errorOf(response: Response): Promise<string> {
  assert(response.status >= 400 && response.status !== 500, `status ${response.status}`);
  const { error } = ErrorEnvelopeSchema.parse(await response.json());
  assert(error.message.length > 0);
  assertEquals(error.correlation_id, response.headers.get("X-Correlation-Id"));
  return error.code;
}

Deno.test("every route but the open ones wants a key, and the right one", () =>
  withHive(async (hive) => {
    for (const [name, spec] of ROUTES) {
      const init = { method: spec.method, body: spec.method === "POST" ? "{}" : undefined };
      if (spec.auth === "none") {
        const response = await ask(hive, pathOf(spec), { ...init, key: null });
        assertEquals(response.status, 200, name);
        await response.body?.cancel();
        continue;
      }
      const missing = await ask(hive, pathOf(spec), { ...init, key: null });
      assertEquals([missing.status, missing.headers.get("WWW-Authenticate")], [401, "Bearer"], name);
      assertEquals(await errorOf(missing), "MISSING_API_KEY", name);
      if (spec.auth === "token") continue;
      const wrong = await ask(hive, pathOf(spec), { ...init, key: "wrong" });
      assertEquals(await errorOf(wrong), "INVALID_API_KEY", name);
    }
  }));

Deno.test("a wrong method and an unknown path are told", () =>
  withHive(async (hive) => {
    for (const [name, spec] of ROUTES) {
      const code = await errorOf(await ask(hive, pathOf(spec), { method: "PUT", body: "{}" }));
      assertEquals(code, "METHOD_NOT_ALLOWED", name);
    }
    assertEquals(await errorOf(await ask(hive, "/v1/nothing")), "NOT_FOUND");
  }));

Deno.test("a body that is no JSON, of the wrong kind, with unknown fields or too large is refused", () =>
  withHive(async (hive) => {
    for (const [name, spec] of POSTS) {
      const send = (body: BodyInit) => ask(hive, pathOf(spec), { method: "POST", body });
      for (
        const body of ["{", "[]", "null", "7", '"text"', '{"surprise":1}', "\u0000", new Uint8Array([0xff])]
      ) {
        assertEquals(await errorOf(await send(body)), "INVALID_REQUEST", `${name} ${body}`);
      }
      const huge = JSON.stringify({ model_ref: "x".repeat(MAX_CONTROL_BODY_BYTES) });
      assertEquals(await errorOf(await send(huge)), "PAYLOAD_TOO_LARGE", name);
    }
  }));

Deno.test("every bad field of a spawn is named at once", () =>
  withHive(async (hive) => {
    const body = JSON.stringify({
      ...{
        model_ref: "nonsense",
        backend: "abacus",
        device: -1,
        slots: 1.5,
        ctx_size: 1,
        idle_timeout: "soon",
        x: 1,
      },
    });
    const response = await ask(hive, "/v1/workers/spawn", { method: "POST", body });
    const { error } = ErrorEnvelopeSchema.parse(await response.json());
    const fields = (error.details.errors as { field: string }[]).map(({ field }) => field).sort();
    assertEquals(fields, ["backend", "ctx_size", "device", "idle_timeout", "model_ref", "slots", "x"]);
  }));

Deno.test("queries are checked: unknown, missing, repeated", () =>
  withHive(async (hive) => {
    const paths = [
      "/v1/workers/list?stat=idle",
      "/v1/capabilities?x",
      "/v1/models?a=1",
      "/v1/models/download/progress",
      "/v1/models/download/progress?id=",
      "/v1/models/download/progress?id=a&id=b",
      "/v1/models/download/progress?id=a&x=1",
    ];
    for (const path of paths) assertEquals(await errorOf(await ask(hive, path)), "INVALID_REQUEST", path);
  }));

Deno.test("what is not there is not found, each by its own code", () =>
  withHive(async (hive) => {
    const code = async (method: string, path: string, body?: string) =>
      await errorOf(await ask(hive, path, { method, body }));
    assertEquals(await code("GET", "/v1/workers/nobody"), "WORKER_NOT_FOUND");
    assertEquals(await code("POST", "/v1/workers/nobody/shutdown", "{}"), "WORKER_NOT_FOUND");
    assertEquals(await code("GET", "/v1/models/download/progress?id=nothing"), "DOWNLOAD_NOT_FOUND");
    assertEquals(await code("DELETE", "/v1/models/download/nothing"), "DOWNLOAD_NOT_FOUND");
    assertEquals(await code("DELETE", "/v1/models/hf%3Aa%2Fb"), "MODEL_NOT_FOUND");
    assertEquals(await code("DELETE", "/v1/models/nonsense"), "INVALID_REQUEST");
    assertEquals(await code("DELETE", "/v1/models/%ff"), "INVALID_REQUEST");
    const spawn = (ref: string) => code("POST", "/v1/workers/spawn", JSON.stringify({ model_ref: ref }));
    assertEquals(await spawn("hf:a/b:Q4_0"), "MODEL_NOT_FOUND");
    assertEquals(await spawn("file:/no/such.gguf"), "MODEL_NOT_FOUND");
  }));

Deno.test("whatever is sent where: an answer with an envelope, and never a 500", () =>
  withHive(async (hive) => {
    const text = fc.oneof(
      fc.string(),
      fc.constantFrom("..", "%00", "__proto__", "hf:a/b", "file:/x.gguf", "\u202e"),
    );
    const value = fc.oneof(fc.jsonValue(), text, fc.double());
    const fields = [
      "worker_id",
      "url",
      "backend",
      "device",
      "pid",
      "slots",
      "ctx_size",
      "idle_timeout",
      "__proto__",
    ];
    const body = fc.oneof(
      fc.string(),
      fc.json(),
      // Never a model that is here: that would start a worker.
      fc.record({ model_ref: fc.oneof(fc.constant("hf:no/such:model"), fc.jsonValue()) }),
      fc.dictionary(fc.oneof(fc.constantFrom(...fields), text), value),
    ).map((made) => typeof made === "string" ? made : JSON.stringify(made));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...ROUTES),
        text,
        body,
        text,
        async ([, spec], param, sent, query) => {
          const escaped = spec.path.replace(/:[a-z_]+/g, () => encodeURIComponent(param));
          const path = escaped + (query === "" ? "" : `?${encodeURIComponent(query)}=1`);
          const response = await ask(hive, path, {
            method: spec.method,
            body: spec.method === "POST" ? sent : undefined,
          });
          if (response.status < 400) await response.body?.cancel();
          else await errorOf(response);
        },
      ),
      { numRuns: 500 },
    );
    assertEquals(hive.workers.snapshot(), []);
    assertEquals(hive.log.filter(({ level }) => level === "error"), []);
  }));

Deno.test("capabilities say what there is", () =>
  withHive(async (hive) => {
    const capabilities = CapabilitiesResponse.parse(await (await ask(hive, "/v1/capabilities")).json());
    assertEquals(capabilities.backends, ["cpu"]);
    assertEquals(capabilities.versions.llama_cpp, "fake");
    assert(capabilities.memory.free_mb > 0 && capabilities.disk.free_mb > 0);
  }));

Deno.test("a model that is here needs no download, is listed, and is not deleted while a worker has it", () =>
  withHive(async (hive) => {
    const download = await ask(hive, "/v1/models/download", {
      method: "POST",
      body: JSON.stringify({ model_ref: "builtin:stories" }),
    });
    assertEquals(download.status, 200);
    assertEquals((await download.json()).download_id, "cached");
    const { models } = ModelsResponse.parse(await (await ask(hive, "/v1/models")).json());
    assertEquals(models.map(({ reference }) => reference), ["builtin:stories"]);

    const { worker_id } = await hive.spawn();
    const remove = () => ask(hive, "/v1/models/builtin%3Astories", { method: "DELETE" });
    assertEquals(await errorOf(await remove()), "MODEL_IN_USE");
    await hive.client.shutdownWorker(worker_id);
    assertEquals((await remove()).status, 204);
  }));

/** Downloads and follows it twice, the second time when it is over. */
async function download(hive: TestHive, ref: string) {
  const body = JSON.stringify({ model_ref: ref });
  const response = await ask(hive, "/v1/models/download", { method: "POST", body });
  assertEquals(response.status, 202);
  const { download_id } = await response.json();
  const follow = async () => {
    const stream = await ask(hive, `/v1/models/download/progress?id=${download_id}`);
    assertEquals(stream.headers.get("Content-Type"), "text/event-stream; charset=utf-8");
    return (await Array.fromAsync(readEvents(stream.body!))).map((event) => DownloadEvent.parse(event));
  };
  return { id: download_id as string, events: await follow(), late: await follow() };
}

Deno.test("a download is followed to its end, and its model spawned, listed and deleted", () =>
  withHive(async (hive) => {
    const { id, events, late } = await download(hive, "hf:acme/bee:Q8_0");
    assertEquals(events.at(-1)?.stage, "complete");
    assertEquals(late, [events.at(-1)!]);
    const ended = await ask(hive, `/v1/models/download/${id}`, { method: "DELETE" });
    assertEquals([ended.status, await ended.json()], [200, { canceled: true }]);
    const { worker_id } = await hive.spawn({ model_ref: "hf:acme/bee:Q8_0" });
    await hive.until(worker_id, "idle");
    const remove = () => ask(hive, "/v1/models/hf%3Aacme%2Fbee%3AQ8_0", { method: "DELETE" });
    assertEquals(await errorOf(await remove()), "MODEL_IN_USE");
    await hive.client.shutdownWorker(worker_id);
    assertEquals((await remove()).status, 204);
    const metrics = await (await ask(hive, "/metrics")).text();
    assertStringIncludes(metrics, 'downloads_total{outcome="complete"} 1');
    const [first] = events;
    assert(first.stage === "downloading");
    assertStringIncludes(metrics, `download_bytes_total ${first.bytes_total}\n`);
  }));

Deno.test("a download that fails says why, to late followers too", () =>
  withHive(async (hive) => {
    const { events, late } = await download(hive, "hf:acme/bee:F16");
    const last = events.at(-1)!;
    assert(last.stage === "error" && last.error.code === "INVALID_MODEL");
    assertEquals(late, [last]);
    assertStringIncludes(
      await (await ask(hive, "/metrics")).text(),
      'downloads_total{outcome="INVALID_MODEL"} 1',
    );
  }));

Deno.test("the metrics are those of what happened", () =>
  withHive(async (hive) => {
    const { worker_id } = await hive.spawn();
    await hive.spawn();
    const { pid } = await hive.until(worker_id, "idle");
    const before = await (await ask(hive, "/metrics")).text();
    for (
      const line of ['workers{state="idle"} 1', 'spawns_total{outcome="started"} 1', 'outcome="reused"} 1']
    ) {
      assertStringIncludes(before, line);
    }
    Deno.kill(pid, "SIGKILL");
    await hive.gone(worker_id);
    const after = await (await ask(hive, "/metrics")).text();
    assertStringIncludes(after, 'rbee_hive_worker_crashes_total{cause="signal"} 1');
    assertStringIncludes(after, 'rbee_hive_workers{state="idle"} 0');
  }));

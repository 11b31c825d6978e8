import { assert, assertEquals, assertRejects } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import type { LoadingEvent } from "../../protocol/worker_schemas.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import { LOAD_WATCH_RETRY_MS } from "../limits.ts";
import type { WorkerApi } from "./connection.ts";
import { type LoadProgress, watchLoad } from "./load_watch.ts";

const LAYER: LoadingEvent = { stage: "loading_to_vram", layers_loaded: 1, layers_total: 2, vram_mb: 1 };

/** A worker whose progress streams give these events, one list each; after its list a stream breaks. */
function worker(...streams: LoadingEvent[][]) {
  let opened = 0;
  const api = {
    loadingProgress() {
      const events = streams[opened++];
      if (events === undefined) throw new RbeeError("NODE_UNREACHABLE", "Nobody is there.");
      return Promise.resolve({
        headers: new Headers(),
        events: (async function* () {
          yield* events;
          throw new Error("cut");
        })(),
      });
    },
  } as unknown as WorkerApi;
  return { api, opened: () => opened };
}

function watch(api: WorkerApi, options: { exited?: Promise<unknown>; signal?: AbortSignal } = {}) {
  const clock = new FakeClock();
  const seen: LoadProgress[] = [];
  const { exited = new Promise(() => {}), signal = new AbortController().signal } = options;
  const result = watchLoad(api, { clock, exited, signal, onProgress: (progress) => seen.push(progress) });
  return { clock, seen, result };
}

Deno.test("a load is followed to its end", async () => {
  const { seen, result } = watch(worker([LAYER, { stage: "ready" }]).api);
  assertEquals(await result, "ready");
  assertEquals(seen, [{ layersLoaded: 1, layersTotal: 2 }]);
});

Deno.test("a failed load gives the worker's own error", async () => {
  const error = new RbeeError("INVALID_MODEL", "It is cut short.").toBody("id");
  const result = await watch(worker([LAYER, { stage: "error", error }]).api).result;
  assert(result instanceof RbeeError);
  assertEquals([result.code, result.message], ["INVALID_MODEL", "It is cut short."]);
});

Deno.test("a stream that breaks is opened again after a pause", async () => {
  const { api, opened } = worker([LAYER], [LAYER, { stage: "ready" }]);
  const { clock, result } = watch(api);
  await clock.advanceUntil("a second stream", {
    stepMs: LOAD_WATCH_RETRY_MS / 10,
    holds: () => opened() === 2,
  });
  assertEquals(await result, "ready");
});

Deno.test("a stream that breaks because the process is over is not opened again", async () => {
  const { api, opened } = worker([LAYER]);
  assertEquals(await watch(api, { exited: Promise.resolve() }).result, "over");
  assertEquals(opened(), 1);
});

Deno.test("the watch ends with its signal", async () => {
  const stop = new AbortController();
  const { result } = watch(worker([]).api, { signal: stop.signal });
  stop.abort(new Error("enough"));
  await assertRejects(() => result, Error, "enough");
});

/** A part of the hostile corpus against real workers: what comes back, and that the worker lives. `soak:hostile` times it. */
import { assert, assertEquals } from "@std/assert";
import { entryAt, foundCount } from "./hostile/corpus.ts";
import type { Kind } from "./hostile/entry.ts";
import {
  exportedState,
  sendConnections,
  sendRequest,
  sendState,
  type Target,
  wrong,
} from "./hostile/send.ts";
import { startGround } from "./hostile/workers.ts";

/** However slow the machine is: an answer that is not there by then never comes. */
const LIMIT_MS = 60_000;
const SEED = 1;
/** Made of each kind, and how large they are beside those of the soak. */
const MADE = 6;
const SCALE = 0.02;
/** The found ones of these are small; those of the others are for the soak. */
const SMALL: readonly Kind[] = ["A2", "A3", "A8"];

Deno.test("a worker answers or refuses hostile requests, frees its slots and goes on as before", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await using worker = await startGround("answers", { folder });
    const problems: string[] = [];
    const state = await exportedState(worker);
    for (const kind of ["A1", "A2", "A3", "A5", "A6", "A7", "A8", "A12"] as const) {
      for (const entry of entriesOf(kind)) {
        const outcome = await sendEntry(worker, { entry, state });
        const problem = outcome && wrong(outcome, entry.right);
        if (problem !== undefined) problems.push(`${kind} ${entry.name}: ${problem}`);
      }
    }
    assertEquals(problems, []);
    const plain = entryAt("A1", { seed: SEED, index: foundCount("A1") - 1 });
    assert(plain.act === "request");
    assertEquals((await sendRequest(worker, plain, { limitMs: LIMIT_MS })).what, "answered");
    const { success, signal } = await worker.daemon.stop();
    assertEquals([success, signal], [true, null]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("an entry of the corpus is the same for the same seed, and smaller with a smaller scale", () => {
  for (const kind of ["A1", "A5"] as const) {
    const at = { seed: 7, index: foundCount(kind) + 3 };
    const bodies = [entryAt(kind, at), entryAt(kind, at), entryAt(kind, { ...at, scale: 0.01 })].map(
      (entry) => {
        assert(entry.act === "request");
        return entry.body();
      },
    );
    assertEquals(bodies[0], bodies[1]);
    assert(bodies[2].length < bodies[0].length, `${bodies[2].length} is not less than ${bodies[0].length}`);
  }
});

function entriesOf(kind: Kind) {
  const found = foundCount(kind);
  const first = SMALL.includes(kind) ? 0 : found;
  const count = found + MADE - first;
  return Array.from(
    { length: count },
    (_, i) => entryAt(kind, { seed: SEED, index: first + i, scale: SCALE }),
  );
}

/** Undefined for entries that are for another worker. */
async function sendEntry(
  worker: Target,
  { entry, state }: { entry: ReturnType<typeof entryAt>; state: Uint8Array<ArrayBuffer> },
) {
  const sending = { limitMs: LIMIT_MS };
  switch (entry.act) {
    case "request":
      if (entry.ground === "embeddings" || entry.ground === "ranking") return;
      return await sendRequest(worker, entry, sending);
    case "state":
      return await sendState(worker, { entry, state }, sending);
    case "connections":
      return await sendConnections(worker, entry);
  }
}

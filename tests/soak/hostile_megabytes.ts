/**
 * `deno task soak:megabytes`: a megabyte of emoji, of CJK and of mixed scripts to each route that tokenises, and
 * how long that takes. Each has to be answered or refused within a second, with health below 50 ms meanwhile. Exit
 * status 1 otherwise.
 */
import { SCRIPTS, TEXT_WAYS } from "../hostile/texts.ts";
import { Draw } from "../hostile/draw.ts";
import type { Ground } from "../hostile/entry.ts";
import { alive, sendRequest, wrong } from "../hostile/send.ts";
import { Witness } from "../hostile/witness.ts";
import { type HostileWorker, startGround } from "../hostile/workers.ts";

const MEGABYTE = 1024 * 1024;
const ANSWER_MS = 1_000;
const HEALTH_MS = 50;
const LIMIT_MS = 120_000;
const MOST_MEGABYTES = 4_000;
const WAYS = [
  "tokenize",
  "tokenize_with_pieces",
  "count_tokens",
  "embeddings",
  "rerank",
  "prompt",
  "token_array",
  "chat",
];

if (import.meta.main) Deno.exit(await megabytes());

async function megabytes(): Promise<number> {
  const folder = await Deno.makeTempDir({ prefix: "rbee-megabytes-" });
  await using workers = new AsyncDisposableStack();
  using witness = new Witness();
  const grounds = new Map<Ground, HostileWorker>();
  let failed = 0;
  try {
    for (const way of WAYS) {
      for (const [name, text] of Object.entries(texts())) {
        const entry = TEXT_WAYS[way](text, `${way}: 1 MB of ${name}`);
        let worker = grounds.get(entry.ground);
        if (worker === undefined || !await alive(worker, LIMIT_MS)) {
          worker = workers.use(await startGround(entry.ground, { folder }));
          grounds.set(entry.ground, worker);
        }
        entry.body();
        const { url, key, pid } = worker;
        witness.label(entry.name);
        witness.watch({ url, key, pid, planMegabytes: 0, mostMegabytes: MOST_MEGABYTES });
        await witness.collect();
        const outcome = await sendRequest(worker, entry, { limitMs: LIMIT_MS });
        const { slowestHealth, mostMegabytes } = await witness.collect();
        witness.leave(pid);
        const problem = wrong(outcome, "either");
        const ok = problem === undefined && outcome.ms < ANSWER_MS && slowestHealth.ms < HEALTH_MS;
        if (!ok) failed++;
        console.log(
          `${ok ? "ok    " : "failed"} ${entry.name}: ${problem ?? outcome.code ?? outcome.what}, ` +
            `${outcome.ms.toFixed(0)} ms, health at most ${slowestHealth.ms.toFixed(0)} ms, ${
              mostMegabytes.megabytes.toFixed(0)
            } MB`,
        );
      }
    }
  } finally {
    await workers.disposeAsync();
    await Deno.remove(folder, { recursive: true });
  }
  const count = WAYS.length * Object.keys(texts()).length;
  console.log(`megabytes: ${count - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** Each a megabyte of UTF-8. */
function texts(): Record<string, string> {
  const draw = new Draw({ seed: 1, stream: 0, index: 0 });
  const mixed = draw.list(200_000, (i) => Object.values(SCRIPTS)[i % Object.keys(SCRIPTS).length](draw)).join(
    "",
  );
  return {
    emoji: "😀".repeat(MEGABYTE / 4),
    CJK: draw.list(MEGABYTE / 3, () => SCRIPTS.han(draw)).join(""),
    "mixed scripts": cut(mixed.toWellFormed(), MEGABYTE),
  };
}

function cut(text: string, bytes: number): string {
  return new TextDecoder().decode(new TextEncoder().encode(text).subarray(0, bytes));
}

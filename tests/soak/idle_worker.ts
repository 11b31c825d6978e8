/**
 * Part of `deno task soak`: the five minutes of SPEC §6, once for real. A worker of a real hive answers one request and
 * is left alone; how long it stays and what of its memory is free afterwards. Exit status 1 when it is not gone within
 * 303 s of its last request, goes before 300 s, or leaves a process, a port or memory behind.
 */
import { delay } from "@std/async";
import { join } from "@std/path";
import { processIdentity } from "../../home/process_identity.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { startHive } from "../helpers/daemons.ts";
import { eventually } from "../helpers/eventually.ts";
import { type LlamaShape, writeLlamaGguf } from "../helpers/gguf_writer.ts";
import { isPortFree } from "../helpers/recovery.ts";
import { tempHome } from "../helpers/temp_home.ts";

const IDLE_SECONDS = 300;
const GONE_SECONDS = 303;
/** Large enough to be seen in the memory of the machine: 350 MB of weights, and the KV cache of four slots. */
const MODEL: LlamaShape = {
  ...{ layers: 12, embd: 1_024, heads: 16, ff: 4_096, type: "F16", vocab: 8_000, ctx: 4_096 },
};
/** Pause between two looks at the machine's memory. */
const LOOK_INTERVAL_MS = 500;
/** What other programs of the machine may do meanwhile. */
const MEMORY_NOISE_MB = 150;

if (import.meta.main) Deno.exit(await soak());

async function soak(): Promise<number> {
  await using home = await tempHome();
  const path = join(home.path, "idle.gguf");
  await writeLlamaGguf(path, MODEL);
  await using hive = await startHive({ home });
  const freeMb = async () => (await hive.client.capabilities()).memory.free_mb;
  const { worker_id, url, api_key } = await hive.client.spawn({ model_ref: `file:${path}` });
  const worker = new WorkerClient({ baseUrl: url, apiKey: api_key });
  await eventually("a loaded model", async () => (await worker.ready()).ready, 60_000);
  const { pid } = await hive.client.worker(worker_id);
  const { events: happenings } = await hive.client.events();
  const gone = (async () => {
    for await (const event of happenings) {
      if (event.kind === "worker" && event.what === "exited") return performance.now();
    }
    throw new Error("The hive ended its events.");
  })();
  await Array.fromAsync((await worker.infer({ prompt: "Once", max_tokens: 20 })).events);
  const idleSinceMs = performance.now();
  const ready = await worker.ready();
  // What it has mapped besides counts as free all the time: the system can drop it whenever it likes.
  const takenMb = ready.ready ? ready.memory.private_mb : 0;
  let over = false;
  gone.finally(() => over = true);
  // Just before and just after: the rest of the machine has little time to change its mind.
  let duringMb = await freeMb();
  while (!over) {
    await delay(LOOK_INTERVAL_MS);
    if (!over) duringMb = await freeMb();
  }
  const seconds = (await gone - idleSinceMs) / 1_000;
  const afterMb = await freeMb();
  const left = [
    ...await processIdentity(pid) === undefined ? [] : ["its process"],
    ...await isPortFree(url) ? [] : ["its port"],
    ...afterMb - duringMb > takenMb - MEMORY_NOISE_MB ? [] : ["its memory"],
  ];
  console.log(
    `idle worker: gone ${seconds.toFixed(1)} s after its last request; it took ${
      Math.round(takenMb)
    } MB of its own, and ` +
      `${Math.round(afterMb - duringMb)} MB more were free after it; left behind: ${
        left.join(", ") || "nothing"
      }`,
  );
  return seconds >= IDLE_SECONDS && seconds <= GONE_SECONDS && left.length === 0 ? 0 : 1;
}

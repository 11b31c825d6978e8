/**
 * `deno task soak:pause [--seconds N] [--waiting N]`: a queen is stopped (SIGSTOP) while tasks and chats wait for the one
 * slot of a cluster. Each has to say afterwards what it says undisturbed. Exit status 1 otherwise.
 */
import { parseArgs } from "node:util";
import { readMetrics } from "../../daemon/metrics_text.ts";
import { QUEEN_ROUTES } from "../../protocol/routes.ts";
import { CLUSTER_KEY, spawned, startCluster } from "../helpers/cluster.ts";
import { waysOf } from "../helpers/cluster_answers.ts";
import { eventually } from "../helpers/eventually.ts";

const MODEL = "builtin:stories";
const TOKENS = 400;

const { values } = parseArgs({
  args: Deno.args,
  options: { seconds: { type: "string", default: "90" }, waiting: { type: "string", default: "20" } },
});
const seconds = Number(values.seconds);
const wanted = Number(values.waiting);

Deno.exit(await soak());

async function soak(): Promise<number> {
  await using cluster = await startCluster({ nodes: ["mac", "attic"] });
  const { queen } = cluster;
  await spawned(cluster, "mac", { model_ref: MODEL, slots: 1 });
  const ways = waysOf(queen);
  const asked = (seed: number) => ({ model: MODEL, prompt: "Once", maxTokens: TOKENS, seed, temperature: 1 });
  const ask = (i: number) => ways[i % ways.length].ask(asked(i));
  // Some will have been answered before the queen stands still.
  const count = wanted + 10;
  const undisturbed: string[] = [];
  for (let i = 0; i < count; i++) undisturbed.push(await ask(i));

  const answers = Array.from({ length: count }, (_, i) => ask(i));
  // What fails while the queen stands still is told below.
  for (const answer of answers) answer.catch(() => {});
  const waiting = async () => {
    const headers = { Authorization: `Bearer ${CLUSTER_KEY}` };
    const samples = await (await fetch(`${queen.url}${QUEEN_ROUTES.metrics.path}`, { headers })).text();
    return readMetrics(samples).find(({ name }) => name === "rbee_queen_waiting")!.samples[0].value;
  };
  const waited = await eventually("them to wait", async () => {
    const now = await waiting();
    return now >= wanted ? now : undefined;
  });
  Deno.kill(queen.pid, "SIGSTOP");
  console.log(`${waited} requests wait; the queen stands still for ${seconds} s`);
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  Deno.kill(queen.pid, "SIGCONT");

  const results = await Promise.allSettled(answers);
  let same = 0;
  for (const [i, result] of results.entries()) {
    const text = result.status === "fulfilled" ? result.value : String(result.reason);
    if (text === undisturbed[i]) same++;
    else console.log(`${ways[i % ways.length].name} ${i}:\n  ${undisturbed[i]}\n  ${text}`);
  }
  console.log(`${same} passed, ${count - same} failed`);
  return same === count ? 0 : 1;
}

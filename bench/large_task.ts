/**
 * A prompt of 4 MB as a task: what each piece of its answer costs the queen, beside that of a short prompt, and what the
 * queen writes to the disk for it. The worker is one that has its answer ready, so that all that is measured is the queen.
 *
 *     deno run -A bench/large_task.ts [--megabytes N] [--pieces N]
 */
import { parseArgs } from "node:util";
import { QUEEN_ROUTES, routePath } from "../protocol/routes.ts";
import { CLUSTER_KEY, startQueen } from "../tests/helpers/cluster.ts";
import { FakeFleet, FLEET_MODEL } from "../tests/helpers/fake_fleet.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { median } from "./measure.ts";

const ROUNDS = 5;

const { values } = parseArgs({
  args: Deno.args,
  options: { megabytes: { type: "string", default: "4" }, pieces: { type: "string", default: "2000" } },
});
const pieces = Number(values.pieces);
const promptBytes = 1e6 * Number(values.megabytes);

await using home = await tempHome();
await using queen = await startQueen({ home });
const call = (path: string, body?: unknown) =>
  fetch(new URL(path, queen.url), {
    method: body === undefined ? "GET" : "POST",
    headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
await using fleet = new FakeFleet({ call }, { tokens: pieces });
await fleet.start(1);

const prompts = { short: "Once", long: incompressible(promptBytes) };
const costs = { short: [] as Cost[], long: [] as Cost[] };
for (let round = 0; round < ROUNDS; round++) {
  for (const name of ["short", "long"] as const) costs[name].push(await costOf(prompts[name]));
}
const medianOf = (all: Cost[], of: keyof Cost) => median(all.map((cost) => cost[of]));
for (const [name, all] of Object.entries(costs)) {
  console.log(
    `${name} prompt (${(prompts[name as keyof typeof prompts].length / 1e6).toFixed(1)} MB): ` +
      `${medianOf(all, "acceptMs").toFixed(0)} ms of CPU until the task is accepted, ${
        (medianOf(all, "answerMs") / pieces).toFixed(3)
      } ms for each of ${pieces} pieces; ${
        (medianOf(all, "writtenBytes") / 1e6).toFixed(2)
      } MB written in all`,
  );
}
console.log(
  `written for a long prompt: ${
    ((medianOf(costs.long, "writtenBytes") - medianOf(costs.short, "writtenBytes")) /
      prompts.long.length).toFixed(2)
  } times its size`,
);

/** So many characters, of which none can be foretold: a store that compresses has no advantage. */
function incompressible(length: number): string {
  const bytes = new Uint8Array(length * 3 / 4);
  for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes.toBase64();
}

interface Cost {
  acceptMs: number;
  answerMs: number;
  writtenBytes: number;
}

async function costOf(prompt: string): Promise<Cost> {
  const before = await used();
  const response = await call(QUEEN_ROUTES.submit.path, { model: FLEET_MODEL, prompt, max_tokens: pieces });
  const receipt = await response.json();
  if (response.status !== 202) throw new Error(JSON.stringify(receipt));
  const accepted = await used();
  const events = await call(routePath(QUEEN_ROUTES.taskEvents, { id: receipt.job_id }));
  const text = await events.text();
  if (!text.includes(`"index":${pieces - 1}`)) throw new Error(text.slice(-500));
  const after = await used();
  await fleet.report();
  return {
    acceptMs: accepted.cpuMs - before.cpuMs,
    answerMs: after.cpuMs - accepted.cpuMs,
    writtenBytes: after.writtenBytes - before.writtenBytes,
  };
}

/** By all of the queen's threads, so far. */
async function used(): Promise<{ cpuMs: number; writtenBytes: number }> {
  const stat = (await Deno.readTextFile(`/proc/${queen.pid}/stat`)).split(") ")[1].split(" ");
  const io = await Deno.readTextFile(`/proc/${queen.pid}/io`);
  return {
    cpuMs: 10 * (Number(stat[11]) + Number(stat[12])),
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)![1]),
  };
}

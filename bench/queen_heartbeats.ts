/** A real queen, told by a thousand hives every five seconds, each with a key of its own. */
import { createHash } from "node:crypto";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import type { HeartbeatInput } from "../protocol/queen_schemas.ts";
import { CLUSTER_KEY, startQueen } from "../tests/helpers/cluster.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { Random } from "../tests/soak/random.ts";
import { kilobytes } from "./process_figures.ts";
import { HIVES, reportOf, WORKERS_PER_HIVE } from "./queen_reports.ts";

const ROUNDS = 6;
const UNPLACEABLE = 100;
/** Too much for any machine as it is at present, though not for the memory that it has in all … */
const TOO_LARGE_BYTES = 5.2e10;
/** … and what has room once workers leave that are busy. */
const LARGE_BYTES = 3e10;
const BUSY_WORKERS = WORKERS_PER_HIVE - 2;

/** Prints what that costs while requests wait that no machine has room for. */
export async function heartbeats(seed: number): Promise<void> {
  const random = new Random(seed, 1);
  await using home = await tempHome();
  const keys = Array.from({ length: HIVES }, (_, hive) => ({
    ...{ name: `hive-${hive}`, node: `hive-${hive}`, rights: "hive" },
    hash: createHash("sha256").update(keyOf(hive)).digest("hex"),
  }));
  await Deno.writeTextFile(`${home.rbeeHome}/config.yaml`, JSON.stringify({ queen: { keys } }));
  await using queen = await startQueen({ home });
  const send = async (path: string, how: { key: string; body: unknown }) => {
    const response = await fetch(`${queen.url}${path}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${how.key}`, "Content-Type": "application/json" },
      body: JSON.stringify(how.body),
    });
    if (!response.ok) throw new Error(await response.text());
    await response.body?.cancel();
  };
  const report = (hive: number, body: HeartbeatInput) =>
    send("/v2/hives/heartbeat", { key: keyOf(hive), body });
  const reports = Array.from({ length: HIVES }, (_, hive) => busyReportOf(hive, random));
  const large = Array.from({ length: UNPLACEABLE }, (_, i) => `hf:large/model-${i}:Q8_0`);
  reports[0].models!.push(...large.map((model_ref, i) => ({
    model_ref,
    size_bytes: i % 2 === 0 ? TOO_LARGE_BYTES : LARGE_BYTES,
  })));
  for (const [hive, first] of reports.entries()) await report(hive, first);
  for (const model of large) await send("/v2/tasks", { key: CLUSTER_KEY, body: { model, prompt: "Once" } });
  // From now on as a hive does it: what has not changed is not told again. One worker in ten has read new prompts.
  const cpuBefore = await cpuSeconds(queen.pid);
  const startMs = performance.now();
  const gapMs = HEARTBEAT_INTERVAL_MS / HIVES;
  const sent: Promise<void>[] = [];
  for (let i = 0; i < ROUNDS * HIVES; i++) {
    const { workers, memory, devices: _, models: __, ...rest } = reports[i % HIVES];
    const told = workers.map(({ blocks, ...worker }) => random.chance(10) ? { ...worker, blocks } : worker);
    const freeMb = memory.free_mb + random.integer(-100, 100);
    sent.push(report(i % HIVES, { ...rest, memory: { ...memory, free_mb: freeMb }, workers: told }));
    const aheadMs = (i + 1) * gapMs - (performance.now() - startMs);
    if (aheadMs > 1) await new Promise((resolve) => setTimeout(resolve, aheadMs));
  }
  await Promise.all(sent);
  const seconds = (performance.now() - startMs) / 1000;
  const used = await cpuSeconds(queen.pid) - cpuBefore;
  const { waiting } = await waitingOf(queen.url);
  const mostBytes = await kilobytes(`/proc/${queen.pid}/status`, /VmHWM:\s+(\d+)/);
  console.log(
    `with ${waiting} requests waiting for room, heartbeats of ${HIVES} hives every ${
      HEARTBEAT_INTERVAL_MS / 1000
    } s, over HTTP: ${(100 * used / seconds).toFixed(1)} % of a core ` +
      `over ${seconds.toFixed(0)} s; the queen's greatest resident memory ${(mostBytes / 1e6).toFixed(0)} MB`,
  );
}

function keyOf(hive: number): string {
  return `key-of-hive-${hive}`;
}

/** Most workers have work, so that they can't leave for another model. */
function busyReportOf(hive: number, random: Random): HeartbeatInput {
  const report = reportOf(hive, random);
  for (const worker of report.workers.slice(0, BUSY_WORKERS)) {
    worker.state = "busy";
    worker.slots_available = 0;
  }
  return report;
}

async function waitingOf(url: string): Promise<{ waiting: number }> {
  const response = await fetch(`${url}/metrics`, { headers: { Authorization: `Bearer ${CLUSTER_KEY}` } });
  return { waiting: Number(/^rbee_queen_waiting (\d+)/m.exec(await response.text())![1]) };
}

/** Of all threads of a process. */
async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await Deno.readTextFile(`/proc/${pid}/stat`)).split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

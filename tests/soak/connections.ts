/**
 * `deno task soak:connections [--connections N]`: idle and half-open connections by the thousand against each daemon,
 * which may open 1,024 descriptors. Says whether a request with a key is answered meanwhile, and how soon after they are
 * gone; ends with 1 when a daemon has ended, or takes longer than five seconds.
 */
import { parseArgs } from "node:util";
import { HIVE_ROUTES } from "../../protocol/routes.ts";
import { localKeyPath } from "../../home/keys.ts";
import { type Daemon, startDaemon } from "../helpers/daemons.ts";
import { STORIES } from "../helpers/test_models.ts";

const DESCRIPTORS = 1_024;
const AFTER_LIMIT_MS = 5_000;
const ROUND_LIMIT_MS = 60_000;

/** A daemon, and who may ask it. */
interface Target {
  name: string;
  daemon: Daemon;
  port: number;
  key: string;
}

const { values } = parseArgs({
  args: Deno.args,
  options: { connections: { type: "string", default: "5000" } },
});
const count = Number(values.connections);
let failed = 0;
for (const start of [startWorker, startHive, startQueen]) {
  const home = await Deno.makeTempDir({ prefix: "rbee-connections-" });
  const target = await start(home);
  try {
    failed += await round(target) ? 0 : 1;
  } finally {
    await target.daemon.stop();
    await Deno.remove(home, { recursive: true });
  }
}
console.log(`${3 - failed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);

async function round(target: Target): Promise<boolean> {
  const open: Deno.Conn[] = [];
  const startedMs = performance.now();
  let refused = 0;
  while (open.length + refused < count && performance.now() - startedMs < ROUND_LIMIT_MS) {
    try {
      const connection = await Deno.connect({ hostname: "127.0.0.1", port: target.port });
      // Every other one sends half a header.
      if (open.length % 2 === 1) await connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost:"));
      open.push(connection);
    } catch {
      refused++;
    }
  }
  const meanwhile = await answered(target, AFTER_LIMIT_MS);
  for (const connection of open) connection.close();
  const after = await answered(target, AFTER_LIMIT_MS);
  const ended = await Promise.race([target.daemon.status.then(() => true), Promise.resolve(false)]);
  const told = (ms: number | undefined) => ms === undefined ? "no answer" : `answered in ${ms.toFixed(0)} ms`;
  console.log(
    `${target.name}: ${open.length} connections (${refused} refused): ${told(meanwhile)} meanwhile, ${
      told(after)
    } after they were gone${ended ? "; IT ENDED" : ""}`,
  );
  return after !== undefined && !ended;
}

/** How long it takes until a request with the key is answered; undefined when that is longer than the limit. */
async function answered({ port, key }: Target, limitMs: number): Promise<number | undefined> {
  const startedMs = performance.now();
  const limit = AbortSignal.timeout(limitMs);
  while (!limit.aborted) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}${HIVE_ROUTES.v1Health.path}`, {
        headers: { Authorization: `Bearer ${key}` },
        signal: limit,
      });
      await response.body?.cancel();
      if (response.status === 200) return performance.now() - startedMs;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function startWorker(home: string): Promise<Target> {
  const key = crypto.randomUUID();
  const args = ["--model", STORIES, "--model-ref", "builtin:stories", "--port", "0"];
  return await listening("worker", { home, args, key, env: { RBEE_WORKER_API_KEY: key } });
}

function startHive(home: string): Promise<Target> {
  return listening("hive", { home, args: ["daemon", "--listen", "127.0.0.1:0"] });
}

function startQueen(home: string): Promise<Target> {
  return listening("queen", { home, args: ["--listen", "127.0.0.1:0"] });
}

async function listening(
  part: "worker" | "hive" | "queen",
  how: { home: string; args: string[]; key?: string; env?: Record<string, string> },
): Promise<Target> {
  const daemon = startDaemon({
    main: `${part}/main.ts`,
    permissions: part,
    args: how.args,
    env: { RBEE_HOME: how.home, ...how.env },
    within: ["sh", "-c", `ulimit -n ${DESCRIPTORS}; exec "$0" "$@"`],
  });
  const ready = part === "worker" ? "listening" : `${part} ready`;
  const line = await daemon.logged(ready, ({ message }) => message === ready);
  if (part === "worker") await daemon.logged("model loaded", ({ message }) => message === "model loaded");
  const key = how.key ?? (await Deno.readTextFile(localKeyPath(how.home))).trim();
  return { name: part, daemon, port: Number(new URL(String(line.url)).port), key };
}

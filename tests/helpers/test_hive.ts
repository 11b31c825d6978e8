/** A whole hive inside a test, with real worker processes that misbehave on demand. */
import { fromFileUrl, join } from "@std/path";
import { startServer } from "../../daemon/lifecycle.ts";
import { createLogger } from "../../daemon/log.ts";
import type { App } from "../../daemon/serve.ts";
import { type Config, ConfigSchema } from "../../home/config_schema.ts";
import { ensureHome } from "../../home/paths.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import type { WorkerInfo, WorkerState } from "../../protocol/hive_schemas.ts";
import type { SpawnInput } from "../../protocol/spawn_request.ts";
import { HIVE_ROUTES } from "../../protocol/routes.ts";
import { eventually } from "./eventually.ts";
import type { FakeClock } from "./fake_clock.ts";
import { fakeWorkerCommand, type FakeWorkerOptions } from "./fake_worker.ts";
import { systemClock } from "../../daemon/clock.ts";
import { createHive, type Hive } from "../../hive/hive.ts";
import { HiveLogs } from "../../hive/logs/hive_logs.ts";
import { workerEnvironment } from "../../hive/workers/command.ts";
import type { MemoryGroups } from "../../hive/workers/memory_groups.ts";
import { processIdentity } from "../../home/process_identity.ts";
import type { WorkerRegistry } from "../../hive/workers/registry.ts";
import type { Workers } from "../../hive/workers/workers.ts";

/** Options of {@linkcode testHive}. */
export interface TestHiveOptions {
  /** Must exist; several hives may follow each other on one. */
  home: string;
  /** What fake workers do wrong. */
  worker?: FakeWorkerOptions;
  /** In place of the fake worker. */
  command?: string[];
  /** Where models are downloaded from; default: nowhere. */
  hub?: string;
  /** Overrides of the configuration's hive section. */
  config?: Partial<Config["hive"]>;
  /** Default: the machine's. */
  clock?: FakeClock;
  /** Where the kernel limits the memory of workers; default: the machine's control groups. */
  groups?: MemoryGroups;
  /** Whether the pulses of workers are watched; default: only where time is not moved by hand. */
  pulses?: boolean;
  /** Memory that the hive is made to see; default: the machine's. */
  memory?: () => { total_mb: number; free_mb: number };
}

/** A hive under test. */
export interface TestHive extends AsyncDisposable {
  readonly key: string;
  readonly url: string;
  readonly client: HiveClient;
  readonly app: App;
  /** Its parts. */
  readonly parts: Hive;
  readonly workers: Workers;
  readonly registry: WorkerRegistry;
  /** Parsed lines of the hive's own log. */
  readonly log: { message: string; [field: string]: unknown }[];
  /** Ids of the worker processes that are alive. */
  livePids(): Promise<number[]>;
  /** From now on its workers are fake ones that behave like this. */
  setWorker(worker: FakeWorkerOptions): void;
  /** Spawns, with the story model. */
  spawn(request?: Partial<SpawnInput>): ReturnType<HiveClient["spawn"]>;
  /** Waits until a worker is in a state, without asking the worker. */
  until(workerId: string, state: WorkerState): Promise<WorkerInfo>;
  /** Waits until a worker is off the list. */
  gone(workerId: string): Promise<void>;
  /** Ends without a word to its workers, as a hive that is killed. */
  abandon(): Promise<void>;
}

const KEY = "test-key-of-the-hive";

/** Starts one; disposing stops its workers and checks that none is left. */
export async function testHive(options: TestHiveOptions): Promise<TestHive> {
  const { home, clock } = options;
  await ensureHome(home);
  // Nobody listens on the discard port: a download fails instead of going out.
  const config = ConfigSchema.parse({ hub: { endpoint: options.hub ?? "http://127.0.0.1:9" } });
  const hiveConfig = { ...config.hive, worker_ports: [0, 0] as [number, number], ...options.config };
  const lines: TestHive["log"] = [];
  const logs = new HiveLogs({ home, clock: clock ?? systemClock });
  const log = createLogger({
    part: "hive",
    level: "debug",
    format: "json",
    write: (line) => void lines.push(JSON.parse(line)),
    alsoTo: (line) => logs.own(line),
  });
  const command = [...options.command ?? fakeWorkerCommand(options.worker)];
  const env = workerEnvironment(Deno.env.toObject());
  let url = "";
  const hive = createHive({
    ...{
      home,
      apiKey: KEY,
      log,
      logs,
      clock,
      workerEnv: env,
      workerCommand: command,
      memory: options.memory,
      groups: options.groups,
      pulses: options.pulses ?? clock === undefined,
    },
    config: { ...config, hive: { ...hiveConfig, models_dir: join(home, "hub") } },
    env: new Map([["HOME", home]]),
    builtinDir: fromFileUrl(new URL("../../models", import.meta.url)),
    place: () => ({
      host: "127.0.0.1",
      advertise: "127.0.0.1",
      callbackUrl: `${url}${HIVE_ROUTES.ready.path}`,
    }),
  });
  const { app, models, workers, registry } = hive;
  const server = startServer(app, { listen: { hostname: "127.0.0.1", port: 0 }, log });
  url = `http://127.0.0.1:${server.address.port}`;
  const client = new HiveClient({ baseUrl: url, apiKey: KEY });
  let over = false;
  const end = async () => {
    over = true;
    await server.close();
    hive.stopWork();
    await hive.hardware.close();
    await models.close();
    hive.database.close();
  };
  const livePids = async () => {
    const pids = lines.filter(({ message }) => message === "worker started").map(({ pid }) => Number(pid));
    const alive = await Promise.all(pids.map(async (pid) => await processIdentity(pid) !== undefined));
    return pids.filter((_, i) => alive[i]);
  };
  return {
    ...{ key: KEY, url, client, app, parts: hive, workers, registry, log: lines, livePids },
    setWorker: (worker) => void command.splice(0, command.length, ...fakeWorkerCommand(worker)),
    spawn: (request = {}) =>
      client.spawn({ model_ref: "builtin:stories", ...request }, { timeoutMs: 30_000 }),
    until: (workerId, state) =>
      eventually(
        `worker in state ${state}`,
        () => workers.snapshot().find((worker) => worker.worker_id === workerId && worker.state === state),
      ),
    async gone(workerId) {
      await eventually(
        "worker off the list",
        () => workers.snapshot().every((worker) => worker.worker_id !== workerId),
      );
    },
    async abandon() {
      await workers.close({ keepWorkers: true });
      await end();
    },
    async [Symbol.asyncDispose]() {
      if (over) return;
      let closed = false;
      const closing = workers.close().finally(() => closed = true);
      // Limits that stand still would never run out on workers that don't want to leave.
      await clock?.advanceUntil("workers closed", { stepMs: 1_000, holds: () => closed });
      await closing;
      await end();
      const left = await livePids();
      if (left.length > 0) throw new Error(`Worker processes were left behind: ${left}`);
    },
  };
}

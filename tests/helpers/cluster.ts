/** A queen and hives that report to it, as real daemons on loopback, each in a home of its own. */
import config from "../../deno.json" with { type: "json" };
import { QueenClient } from "../../protocol/queen_client.ts";
import type { SpawnResponse } from "../../protocol/hive_schemas.ts";
import type { NodeInfo } from "../../protocol/queen_schemas.ts";
import type { SpawnInput } from "../../protocol/spawn_request.ts";
import {
  type Daemon,
  type RunningHive,
  startDaemon,
  type StartDaemonOptions,
  startHive,
  type StartHiveOptions,
} from "./daemons.ts";
import { eventually } from "./eventually.ts";
import { type TempHome, tempHome } from "./temp_home.ts";

/** The key of all daemons of a cluster. */
export const CLUSTER_KEY = "key-of-the-whole-cluster";

/** As it runs in earnest: two hundred streams fit into 150 MB. */
const QUEEN_V8_FLAGS = /--v8-flags=(\S+)/.exec(config.tasks.queen.command)![1];

/** A running queen. */
export interface RunningQueen extends Daemon {
  readonly url: string;
  readonly client: QueenClient;
}

/** Options of {@linkcode startQueen}. */
export interface StartQueenOptions {
  home: TempHome;
  /** Default: a free port. */
  listen?: string;
  /** More environment. */
  env?: Readonly<Record<string, string>>;
  /** More flags. */
  args?: readonly string[];
  /** See {@linkcode StartDaemonOptions.archive}. */
  archive?: string;
  /** See {@linkcode StartDaemonOptions.within}. */
  within?: StartDaemonOptions["within"];
}

/** A grammar that keeps an answer going long enough, also for a slow reader, to be cut in its middle. */
export const LONG_TEXT = "root ::= [a-z ]{1500}";

/** Starts a queen and waits until it is ready. */
export async function startQueen(options: StartQueenOptions): Promise<RunningQueen> {
  const { home, listen = "127.0.0.1:0", env = {}, args = [], archive, within } = options;
  const daemon = startDaemon({
    main: "queen/main.ts",
    permissions: "queen",
    v8Flags: QUEEN_V8_FLAGS,
    archive,
    within,
    args: ["--listen", listen, ...args],
    env: { ...home.env, XDG_RUNTIME_DIR: `${home.path}/run`, RBEE_API_KEY: CLUSTER_KEY, ...env },
  });
  try {
    const { url } = await daemon.logged("queen ready", ({ message }) => message === "queen ready");
    const client = new QueenClient({ baseUrl: String(url), apiKey: CLUSTER_KEY });
    return { ...daemon, url: String(url), client };
  } catch (error) {
    await daemon.kill();
    throw error;
  }
}

/** A cluster. */
export interface Cluster extends AsyncDisposable {
  readonly queen: RunningQueen;
  readonly hives: Readonly<Record<string, RunningHive>>;
  readonly homes: Readonly<Record<string, TempHome>>;
}

/** Options of {@linkcode startCluster}. */
export interface StartClusterOptions {
  /** Names of its machines. */
  nodes: readonly string[];
  /** The section of the queen in its `config.yaml`. */
  queenConfig?: Readonly<Record<string, unknown>>;
  /** Where the queen listens; default: a free port. */
  listen?: string;
  /** For each hive. */
  hive?: Partial<Omit<StartHiveOptions, "home">>;
  /** More environment of one hive. */
  envOf?: (node: string) => Readonly<Record<string, string>>;
}

/** Starts a queen, then hives that report to it, and waits until it knows them all. */
export async function startCluster(options: StartClusterOptions): Promise<Cluster> {
  const { nodes, queenConfig, listen, hive = {}, envOf } = options;
  const all = new AsyncDisposableStack();
  try {
    const queenHome = all.use(await tempHome());
    if (queenConfig !== undefined) {
      await Deno.writeTextFile(`${queenHome.rbeeHome}/config.yaml`, JSON.stringify({ queen: queenConfig }));
    }
    const queen = all.use(await startQueen({ home: queenHome, listen }));
    const homes: Record<string, TempHome> = { queen: queenHome };
    const hives: Record<string, RunningHive> = {};
    for (const name of nodes) {
      homes[name] = all.use(await tempHome());
      hives[name] = all.use(
        await startHive({
          ...hive,
          home: homes[name],
          env: {
            ...{ RBEE_API_KEY: CLUSTER_KEY, RBEE_HIVE_QUEEN: queen.url, RBEE_HIVE_NAME: name },
            ...{ ...hive.env, ...envOf?.(name) },
          },
        }),
      );
    }
    await known(queen, nodes);
    const owned = all.move();
    return { queen, hives, homes, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  } catch (error) {
    await all.disposeAsync();
    throw error;
  }
}

/** Waits until a queen has heard of machines and what lies on them. */
export async function known(queen: { client: QueenClient }, nodes: readonly string[]): Promise<NodeInfo[]> {
  return await eventually("the queen to know all nodes", async () => {
    const list = await queen.client.nodes();
    const up = list.filter(({ presence, devices }) => presence === "up" && devices.length > 0);
    return nodes.every((name) => up.some(({ node_name }) => node_name === name)) ? list : undefined;
  });
}

/** Kills the workers that generate at this moment; how many. */
export async function killBusyWorkers({ hives }: Pick<Cluster, "hives">): Promise<number> {
  let killed = 0;
  for (const { client } of Object.values(hives)) {
    for (const { pid, state } of (await client.workers()).workers) {
      if (state !== "busy") continue;
      try {
        Deno.kill(pid, "SIGKILL");
        killed++;
      } catch (error) {
        // It was killed a moment ago, and its hive has not noticed yet.
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }
  return killed;
}

/** Has a machine start a worker, and waits until the queen knows that it can answer. */
export async function spawned(
  { queen, hives }: Pick<Cluster, "queen" | "hives">,
  node: string,
  request: SpawnInput,
): Promise<SpawnResponse> {
  const worker = await hives[node].client.spawn(request);
  await eventually(
    "the queen to know the worker",
    async () =>
      (await queen.client.workers()).some(({ worker_id, state }) =>
        worker_id === worker.worker_id && state === "ready"
      ),
  );
  return worker;
}

/**
 * Where a cluster is put under faults: on loopback, or in a house of several machines. In a house the test itself runs on
 * the queen's machine, as a process of its own, and asks the one outside for cables to be cut.
 */
import { TextLineStream } from "@std/streams";
import { WORKER_COMMAND_VARIABLE, workerCommand } from "../../hive/workers/command.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import { CLUSTER_KEY, type RunningQueen, startQueen } from "./cluster.ts";
import { startDaemon, startHive } from "./daemons.ts";
import { freePort } from "./free_port.ts";
import { buildHouse, canNetwork } from "./network.ts";
import { tempHome } from "./temp_home.ts";

/** A cluster's surroundings. Its queen is started by the test, also again. */
export interface FaultWorld {
  readonly hives: Readonly<Record<string, { client: HiveClient }>>;
  /** `RBEE_HOME` of the queen. */
  readonly queenHome: string;
  startQueen(): Promise<RunningQueen>;
  /** Nothing comes from a machine any more; `workerPids` are those of its workers. */
  silence(machine: string, workerPids: readonly number[]): Promise<void>;
  /** It is heard again. */
  hear(machine: string): Promise<void>;
}

const QUEEN = "queen";
const QUEEN_PORT = 8080;
const HIVE_PORT = 9200;
/** On one machine several engines with a thread for each core wait for each other most of the time. */
const WORKER_COMMAND = JSON.stringify([...workerCommand(new Map()), "--threads", "1"]);
/** Tells the process on the queen's machine what there is. */
const IN_HOUSE = "RBEE_TEST_HOUSE";

/** On loopback. A silent machine's processes stand still. */
export async function loopbackWorld(nodes: readonly string[]): Promise<FaultWorld & AsyncDisposable> {
  const all = new AsyncDisposableStack();
  const home = all.use(await tempHome());
  const listen = `127.0.0.1:${freePort()}`;
  const hives: Record<string, { client: HiveClient; pid: number }> = {};
  for (const name of nodes) {
    const env = {
      ...{ RBEE_API_KEY: CLUSTER_KEY, RBEE_HIVE_QUEEN: `http://${listen}`, RBEE_HIVE_NAME: name },
      [WORKER_COMMAND_VARIABLE]: WORKER_COMMAND,
    };
    hives[name] = all.use(await startHive({ home: all.use(await tempHome()), env }));
  }
  const still = new Map<string, readonly number[]>();
  const signal = (pids: readonly number[], name: Deno.Signal) => {
    for (const pid of pids) {
      try {
        Deno.kill(pid, name);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  };
  return {
    hives,
    queenHome: home.rbeeHome,
    startQueen: () => startQueen({ home, listen }),
    silence(machine, workerPids) {
      still.set(machine, [hives[machine].pid, ...workerPids]);
      signal(still.get(machine)!, "SIGSTOP");
      return Promise.resolve();
    },
    hear(machine) {
      signal(still.get(machine)!, "SIGCONT");
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** The surroundings of a process that {@linkcode runInHouse} started; undefined in any other. */
export async function houseWorld(): Promise<FaultWorld | undefined> {
  const told = Deno.env.get(IN_HOUSE);
  if (told === undefined) return undefined;
  const nodes: string[] = JSON.parse(told);
  const home = await tempHome();
  const client = (name: string) =>
    new HiveClient({ baseUrl: `http://${name}:${HIVE_PORT}`, apiKey: CLUSTER_KEY });
  const ask = (what: string) => {
    console.log(`${IN_HOUSE} ${what}`);
    return Promise.resolve();
  };
  return {
    hives: Object.fromEntries(nodes.map((name) => [name, { client: client(name) }])),
    queenHome: home.rbeeHome,
    startQueen: () =>
      startQueen({ home, listen: `0.0.0.0:${QUEEN_PORT}`, env: { RBEE_QUEEN_ADVERTISE: QUEEN } }),
    silence: (machine) => ask(`cut ${machine}`),
    hear: (machine) => ask(`mend ${machine}`),
  };
}

/** Builds the house, starts its hives, and runs this program again on the queen's machine; its exit code. */
export async function runInHouse(args: readonly string[], nodes: readonly string[]): Promise<number> {
  if (!canNetwork) {
    console.error("Network namespaces can't be made here.");
    return 1;
  }
  await using all = new AsyncDisposableStack();
  const house = all.use(
    await buildHouse(Object.fromEntries([QUEEN, ...nodes].map((name) => [name, "cable"]))),
  );
  for (const name of nodes) {
    const home = all.use(await tempHome());
    const hive = all.use(startDaemon({
      main: "hive/main.ts",
      permissions: "hive",
      within: house.on(name),
      args: ["daemon", "--listen", `0.0.0.0:${HIVE_PORT}`, "--advertise", name],
      env: {
        ...home.env,
        RBEE_API_KEY: CLUSTER_KEY,
        RBEE_HIVE_NAME: name,
        [WORKER_COMMAND_VARIABLE]: WORKER_COMMAND,
        RBEE_HIVE_QUEEN: `http://${QUEEN}:${QUEEN_PORT}`,
      },
    }));
    await hive.logged("hive ready", ({ message }) => message === "hive ready");
  }
  const [program, ...within] = house.on(QUEEN);
  const child = new Deno.Command(program, {
    args: [...within, Deno.execPath(), "run", "-q", "-A", Deno.mainModule, ...args],
    env: { [IN_HOUSE]: JSON.stringify(nodes) },
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) {
    const [who, what, machine] = line.split(" ");
    if (who !== IN_HOUSE) console.log(line);
    else if (what === "cut") await house.cut(machine);
    else await house.mend(machine);
  }
  return (await child.status).code;
}

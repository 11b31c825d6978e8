/** Rows about fetching a model: a real hive, and a hub on loopback in a process of its own. */
import { fromFileUrl, join } from "@std/path";
import { type RunningHive, startHive } from "../tests/helpers/daemons.ts";
import { unsettledFiles } from "../hive/models/unsettled.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { pull } from "../tests/helpers/pull.ts";
import { type TempHome, tempHome } from "../tests/helpers/temp_home.ts";
import { FILE, REPO } from "./hub_process.ts";
import { freePort } from "../tests/helpers/free_port.ts";
import { MADE_UP } from "./models.ts";
import { atLeast, type Entrant, figureAtMost, type Row, type RunningContender, type Target } from "./row.ts";

const REF = `hf:${REPO}`;
const FILE_BYTES = 1_000_000_000;
const LARGE_FILE_BYTES = 5_000_000_000;
/** What some servers allow each connection. */
const LIMIT_BYTES_PER_SECOND = 50_000_000;
const LIMITED_FILE_BYTES = 400_000_000;
const BYTES_PER_MB = 1e6;
const SYNC_TIMEOUT_MS = 120_000;

/** A hub with one model, in a process of its own. */
interface HubProcess extends AsyncDisposable {
  url: string;
}

async function startHubProcess(fileBytes: number, bytesPerSecond?: number): Promise<HubProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-q", "-A", fromFileUrl(new URL("hub_process.ts", import.meta.url))],
      ...[fileBytes, bytesPerSecond].filter((arg) => arg !== undefined).map(String),
    ],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await reader.read();
  let stopped: Promise<unknown> | undefined;
  const stop = () => {
    child.kill("SIGTERM");
    return Promise.all([child.status, reader.cancel()]);
  };
  return { url: value.trim(), [Symbol.asyncDispose]: async () => void await (stopped ??= stop()) };
}

/** What a contender needs; all of it ends with `all`. */
interface Surroundings {
  hub: HubProcess;
  home: TempHome;
  all: AsyncDisposableStack;
}

async function surroundings(hubArgs: [fileBytes: number, bytesPerSecond?: number]): Promise<Surroundings> {
  const all = new AsyncDisposableStack();
  const hub = all.use(await startHubProcess(...hubArgs));
  const home = all.use(await tempHome({ hfEndpoint: hub.url }));
  return { hub, home, all };
}

/** A hive that fetches; the figure of each run is what `measure` makes of it. */
function pulling(
  hubArgs: [fileBytes: number, bytesPerSecond?: number],
  entrant: { measure: (hive: RunningHive) => Promise<number>; detail?: string; target?: Target },
): Entrant {
  const { measure, detail, target } = entrant;
  return {
    program: detail === undefined ? "rbee" : `rbee, ${detail}`,
    target,
    async start(): Promise<RunningContender> {
      const { home, all } = await surroundings(hubArgs);
      const hive = all.use(await startHive({ home }));
      return {
        command: `rbee-keeper models pull ${REF}`,
        async run() {
          const figure = await measure(hive);
          await removeModel(hive, home);
          return figure;
        },
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  };
}

/** The whole time of a download, verification included, as MB/s. */
const pullSpeed = (fileBytes: number) => async (hive: RunningHive) => {
  const startedMs = performance.now();
  await pullAnew(hive);
  return speed(fileBytes, startedMs);
};

async function pullAnew(hive: RunningHive): Promise<void> {
  let events = 0;
  await pull(hive, REF, () => events++);
  if (events === 0) throw new Error("The model was there before its download.");
}

/** Not before it is on the disk: what is still on its way there would get into the next program's way. */
async function removeModel(hive: RunningHive, home: TempHome): Promise<void> {
  const root = join(home.hfHome, "hub");
  await eventually(
    "the model is on the disk",
    async () => (await unsettledFiles(root)).length === 0,
    SYNC_TIMEOUT_MS,
  );
  await hive.client.removeModel(REF);
}

function speed(bytes: number, startedMs: number): number {
  return bytes / BYTES_PER_MB / (performance.now() - startedMs) * 1000;
}

/** curl of the same file to the same disk, then what `after` does with it. */
function curl(
  hubArgs: [fileBytes: number, bytesPerSecond?: number],
  entrant: { after?: string; target?: Target } = {},
): Entrant {
  const { after, target } = entrant;
  const fetching = 'curl -sfL -o "$FILE" "$HF_ENDPOINT"/' + `${REPO}/resolve/main/${FILE}`;
  const command = after === undefined ? fetching : `${fetching} && ${after}`;
  return {
    program: after === undefined ? "curl" : `curl, ${after.split(" ")[0]}`,
    target,
    async start(): Promise<RunningContender> {
      const { home, hub, all } = await surroundings(hubArgs);
      const env = { HF_ENDPOINT: hub.url, FILE: join(home.path, FILE) };
      return {
        command,
        async run() {
          const startedMs = performance.now();
          await shell(command, env);
          const figure = speed(hubArgs[0], startedMs);
          await Deno.remove(env.FILE);
          return figure;
        },
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  };
}

/** A hive that takes the model from another hive, which has fetched it before. */
function takingFromPeer(fileBytes: number): Entrant {
  return {
    program: "rbee",
    async start(): Promise<RunningContender> {
      const { home, hub, all } = await surroundings([fileBytes]);
      const first = all.use(await startHive({ home }));
      await pullAnew(first);
      // From now on nobody but the first hive has it.
      await hub[Symbol.asyncDispose]();
      const secondHome = all.use(await tempHome({ hfEndpoint: hub.url }));
      const keyFile = join(secondHome.path, "first.key");
      await Deno.writeTextFile(keyFile, `${first.key}\n`, { mode: 0o600 });
      const nodes = { first: { url: first.url, api_key_file: keyFile } };
      await Deno.writeTextFile(join(secondHome.rbeeHome, "config.yaml"), JSON.stringify({ nodes }), {
        mode: 0o600,
      });
      const second = all.use(await startHive({ home: secondHome }));
      return {
        command: `rbee-keeper models pull ${REF}`,
        async run() {
          const figure = await pullSpeed(fileBytes)(second);
          await removeModel(second, secondHome);
          return figure;
        },
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  };
}

/** The file once over a bare TCP connection and to disk again. */
function rawCopy(fileBytes: number, target: Target): Entrant {
  const command =
    'nc -l 127.0.0.1 "$PORT" > "$COPY" & until nc -N 127.0.0.1 "$PORT" < "$FILE"; do :; done; wait';
  return {
    program: "nc",
    target,
    async start(): Promise<RunningContender> {
      const { home, hub, all } = await surroundings([fileBytes]);
      const env = { PORT: String(freePort()), FILE: join(home.path, FILE), COPY: join(home.path, "copy") };
      const { body } = await fetch(`${hub.url}/${REPO}/resolve/main/${FILE}`);
      await body!.pipeTo((await Deno.create(env.FILE)).writable);
      await hub[Symbol.asyncDispose]();
      return {
        command,
        async run() {
          const startedMs = performance.now();
          await shell(command, env);
          const figure = speed((await Deno.stat(env.COPY)).size, startedMs);
          await Deno.remove(env.COPY);
          return figure;
        },
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  };
}

async function shell(command: string, env: Record<string, string>): Promise<void> {
  const { success, stderr } = await new Deno.Command("sh", { args: ["-c", command], env }).output();
  if (!success) throw new Error(`It failed: ${new TextDecoder().decode(stderr).trim().slice(-300)}`);
}

/** The most memory that the hive had resident while it fetched, in MB. */
async function peakMemory(hive: RunningHive): Promise<number> {
  await pullAnew(hive);
  const status = await Deno.readTextFile(`/proc/${hive.pid}/status`);
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) * 1024 / BYTES_PER_MB;
}

/** See the file's head. */
export const DOWNLOAD_ROWS: readonly Row[] = [
  {
    name: "download",
    what: "fetching a model from a hub on loopback to disk, SHA-256 verified",
    model: MADE_UP,
    unit: "MB/s",
    entrants: [
      pulling([FILE_BYTES], { measure: pullSpeed(FILE_BYTES) }),
      curl([FILE_BYTES], { after: 'openssl dgst -sha256 "$FILE"', target: atLeast(0.8) }),
      curl([FILE_BYTES], { after: 'sha256sum "$FILE"' }),
      curl([FILE_BYTES]),
    ],
  },
  {
    name: "download-limited",
    what: "the same from a server that sends 50 MB/s over each connection",
    model: MADE_UP,
    unit: "MB/s",
    entrants: [
      pulling([LIMITED_FILE_BYTES, LIMIT_BYTES_PER_SECOND], { measure: pullSpeed(LIMITED_FILE_BYTES) }),
      curl([LIMITED_FILE_BYTES, LIMIT_BYTES_PER_SECOND], { target: atLeast(4) }),
    ],
  },
  {
    name: "download-memory",
    what: "the hive's greatest resident memory (VmHWM) while it fetches 5 GB, one download after the other",
    model: MADE_UP,
    unit: "MB",
    entrants: [pulling([LARGE_FILE_BYTES], { measure: peakMemory, target: figureAtMost(150) })],
  },
  {
    name: "from-peer",
    what: "taking a model from another hive on loopback, the hub gone",
    model: MADE_UP,
    unit: "MB/s",
    entrants: [takingFromPeer(FILE_BYTES), rawCopy(FILE_BYTES, atLeast(0.8))],
  },
];

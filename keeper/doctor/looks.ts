/** Where the doctor looks. Each look is by itself, bounded in time, and changes nothing. */
import { join } from "@std/path";
import type { LoadedConfig } from "../../home/config.ts";
import { readHiveFile } from "../../home/hive_file.ts";
import { programCommand } from "../../home/installation.ts";
import { configuredKey, readKeyFile } from "../../home/keys.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import { OPEN_HEALTH_ROUTES } from "../../protocol/routes.ts";
import { VERSION } from "../../protocol/version.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { DOCTOR_DETECT_TIMEOUT_MS, DOCTOR_LOOK_TIMEOUT_MS } from "../limits.ts";
import { knownNodes, LOCALHOST, type ResolvedNode, resolveNode } from "../node.ts";
import { openRegistry } from "../registry.ts";
import {
  type Finding,
  judgeClock,
  judgeDisk,
  judgeMemory,
  judgeMode,
  judgeSandboxSupport,
  judgeVersion,
  judgeWorkerSandbox,
  ok,
  problem,
  warning,
} from "./findings.ts";

/** What every look is given. */
export interface LookContext {
  config: LoadedConfig;
  signal: AbortSignal;
}

/** One of them. */
export type Look = (context: LookContext) => Promise<Finding[]>;

/** All looks, in the order of their telling. */
export const LOOKS: readonly Look[] = [home, key, engine, localHive, ports, nodes, workers, hub];

/** Deno refuses what it can't run itself; older ones may do so in ways that nobody understands. */
const DENO_NEEDED = [2, 9] as const;

/** What needs no configuration. */
export function runtime(): Finding {
  const [major, minor] = Deno.version.deno.split(".").map(Number);
  const [needed, least] = DENO_NEEDED;
  if (major > needed || (major === needed && minor >= least)) {
    return ok("rbee", `version ${VERSION}, on Deno ${Deno.version.deno}`);
  }
  return problem(
    "rbee",
    `Deno ${Deno.version.deno} is too old`,
    `Install ${needed}.${least} or later: npm i -g deno`,
  );
}

async function home({ config }: LookContext): Promise<Finding[]> {
  try {
    const { mode } = await Deno.stat(config.home);
    return [judgeMode("home", { path: config.home, mode })];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return [ok("home", `${config.home} is made with the first command`)];
    }
    return [
      problem(
        "home",
        `${config.home} cannot be looked at: ${(error as Error).message}`,
        "Set RBEE_HOME to a folder of yours.",
      ),
    ];
  }
}

async function key({ config }: LookContext): Promise<Finding[]> {
  try {
    const key = await configuredKey(config.config, config.home);
    return [
      ok("key", key === undefined ? "is made with the first command" : "this machine's key can be used"),
    ];
  } catch (error) {
    return [
      problem(
        "key",
        (error as Error).message,
        "Mend the file, or remove it: a new one is made with the next start.",
      ),
    ];
  }
}

/** What this machine's hive would say of its devices: its own program is asked. */
async function engine({ signal }: LookContext): Promise<Finding[]> {
  const [program, ...args] = programCommand("hive", "detect", "--json");
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DOCTOR_DETECT_TIMEOUT_MS)]);
  const { success, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null", signal: limit })
    .output();
  if (!success) {
    const said = new TextDecoder().decode(stderr).trim().split("\n").at(0) ?? "";
    return [problem("engine", `it cannot be used: ${said}`, "Build it: deno task build")];
  }
  const { devices, memory, disk, llama_cpp, sandbox } = JSON.parse(new TextDecoder().decode(stdout));
  const names = devices.map((device: { backend: string; index: number; name: string }) =>
    `${device.backend} ${device.index} (${device.name})`
  );
  return [
    ok("engine", `llama.cpp ${llama_cpp}, computes on ${names.join(", ")}`),
    ...judgeSandboxSupport("sandbox", sandbox),
    judgeMemory("memory", memory),
    judgeDisk("disk", disk),
  ];
}

async function localHive(context: LookContext): Promise<Finding[]> {
  const { config } = context;
  const file = await readHiveFile(config.home);
  if (file === undefined) return [ok("hive", "does not run on this machine; commands that need it start it")];
  return await hiveFindings("hive", LOCALHOST, context, {
    stale: "A hive was killed. The next command starts another.",
  });
}

async function nodes(context: LookContext): Promise<Finding[]> {
  const names = knownNodes(context.config.config).filter((name) => name !== LOCALHOST);
  const found = await Promise.all(names.map((name) => hiveFindings(`node ${name}`, name, context)));
  return found.flat();
}

/** A hive: does it answer, to our key, in our version, at our time, and has it what it needs? */
async function hiveFindings(
  check: string,
  name: string,
  { config, signal }: LookContext,
  options: { stale?: string } = {},
): Promise<Finding[]> {
  const configured = Object.hasOwn(config.config.nodes, name) ? config.config.nodes[name] : undefined;
  if (configured?.api_key_file !== undefined) {
    try {
      await readKeyFile(configured.api_key_file);
    } catch (error) {
      return [
        problem(
          check,
          (error as Error).message,
          `Mend it, or name another file as nodes.${name}.api_key_file.`,
        ),
      ];
    }
  }
  const node = await resolveNode(name, config);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(DOCTOR_LOOK_TIMEOUT_MS)]);
  const call = { signal: limit, timeoutMs: DOCTOR_LOOK_TIMEOUT_MS };
  const client = new HiveClient({ baseUrl: node.url, apiKey: node.apiKey });
  try {
    const open = await fetch(new URL(OPEN_HEALTH_ROUTES.live.path, node.url), { signal: limit });
    await open.body?.cancel();
    const theirsMs = Date.parse(open.headers.get("Date") ?? "");
    const health = await client.health(call);
    const findings = [judgeVersion(check, { theirs: health.version, ours: VERSION })];
    if (!Number.isNaN(theirsMs)) findings.push(judgeClock(check, { theirsMs, oursMs: Date.now() }));
    const [{ memory, disk, sandbox }, { workers }] = await Promise.all([
      client.capabilities(call),
      client.workers(call),
    ]);
    if (name !== LOCALHOST) {
      findings.push(
        judgeMemory(check, memory),
        judgeDisk(check, disk),
        ...judgeSandboxSupport(check, sandbox),
      );
    }
    findings.push(...workers.flatMap((worker) => judgeWorkerSandbox(check, worker)));
    for (const worker of workers.filter(({ state }) => state === "failed")) {
      const why = worker.error?.message ?? "without a word";
      const more = `rbee-keeper logs --node ${name} --worker ${worker.worker_id}`;
      findings.push(
        warning(check, `worker ${worker.worker_id} (${worker.model_ref}) failed: ${why}`, `See: ${more}`),
      );
    }
    return findings;
  } catch (error) {
    return [unreachable(check, { node, error, stale: options.stale })];
  }
}

function unreachable(
  check: string,
  of: { node: ResolvedNode; error: unknown; stale?: string },
): Finding {
  const { node: { name, url, apiKey, keySetting }, error, stale } = of;
  if (error instanceof RbeeError && (error.code === "INVALID_API_KEY" || error.code === "MISSING_API_KEY")) {
    const remedy = name === LOCALHOST
      ? "It was started with another key, or another home's hive listens there: rbee-keeper daemon stop, then start."
      : `Put its key into a file (mode 0600) and name it as ${keySetting}.`;
    const what = apiKey === undefined ? `no key is configured for ${url}` : `${url} does not know this key`;
    return problem(check, what, remedy);
  }
  if (stale !== undefined) return warning(check, `${url} does not answer`, stale);
  return problem(
    check,
    `${url} does not answer`,
    `Check that the machine is on, that a hive runs there, and the address (nodes.${name}.url). Firewalls in between count, too.`,
  );
}

/** Whether this machine's hive could listen where it should, and its workers after it. */
async function ports({ config }: LookContext): Promise<Finding[]> {
  const { listen, worker_ports: [first, last] } = config.config.hive;
  const findings: Finding[] = [];
  if (await readHiveFile(config.home) === undefined && !canListen(listen.hostname, listen.port)) {
    findings.push(problem(
      "ports",
      `another program has port ${listen.port}, where this machine's hive should listen`,
      "Stop it, or choose another port as hive.listen.",
    ));
  }
  let free: number | undefined;
  for (let port = first; port <= last && free === undefined; port++) {
    if (canListen(listen.hostname, port)) free = port;
  }
  findings.push(
    free === undefined
      ? problem("ports", `all worker ports are taken (${first} to ${last})`, "Widen hive.worker_ports.")
      : ok("ports", first === 0 ? "workers may take any" : `the next worker gets ${free}`),
  );
  return findings;
}

function canListen(hostname: string, port: number): boolean {
  try {
    Deno.listen({ hostname, port }).close();
    return true;
  } catch {
    return false;
  }
}

/** Workers that this keeper remembers and that don't answer any more. */
async function workers({ config, signal }: LookContext): Promise<Finding[]> {
  try {
    await Deno.stat(join(config.home, "keeper.db"));
  } catch {
    return [];
  }
  using registry = await openRegistry(config.home);
  const rows = registry.list();
  const alive = await Promise.all(rows.map(async ({ url, apiKey }) => {
    try {
      const client = new WorkerClient({ baseUrl: url, apiKey });
      await client.ready({ signal, timeoutMs: DOCTOR_LOOK_TIMEOUT_MS });
      return true;
    } catch {
      return false;
    }
  }));
  const stale = alive.filter((each) => !each).length;
  if (stale === 0) {
    return [
      ok(
        "workers",
        rows.length === 0 ? "none are remembered" : `all ${rows.length} that are remembered answer`,
      ),
    ];
  }
  return [
    ok(
      "workers",
      `${stale} of ${rows.length} that are remembered are gone; commands forget them by themselves`,
    ),
  ];
}

async function hub({ config, signal }: LookContext): Promise<Finding[]> {
  const { endpoint, token_file } = config.config.hub;
  const findings: Finding[] = [];
  if (token_file !== undefined) {
    try {
      const { mode } = await Deno.stat(token_file);
      findings.push(judgeMode("hub", { path: token_file, mode }));
    } catch {
      findings.push(problem("hub", `${token_file} cannot be read`, "Mend hub.token_file, or take it out."));
    }
  }
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(DOCTOR_LOOK_TIMEOUT_MS)]);
    const response = await fetch(endpoint, { method: "HEAD", signal: limit, redirect: "manual" });
    await response.body?.cancel();
    findings.push(ok("hub", `${endpoint} can be reached`));
  } catch (error) {
    signal.throwIfAborted();
    findings.push(warning(
      "hub",
      `${endpoint} cannot be reached (${(error as Error).message})`,
      "Models that are here can be used; for others see to the network, HTTPS_PROXY or hub.endpoint.",
    ));
  }
  return findings;
}

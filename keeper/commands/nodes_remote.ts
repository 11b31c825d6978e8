/** `nodes install`, `start` and `stop`: the daemon of another machine, over ssh. */
import { delay } from "@std/async";
import { dirname, fromFileUrl, join } from "@std/path";
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { editConfig } from "../../home/config_file.ts";
import type { NodeConfig } from "../../home/config_schema.ts";
import { newKey } from "../../home/keys.ts";
import { HOME_MODE, PRIVATE_FILE_MODE } from "../../home/paths.ts";
import { DEFAULT_INSTALL_PATH, inFolder, START_HIVE, STOP_HIVE, there } from "../../home/remote_hive.ts";
import { shellWord } from "../../home/ssh.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { isSilence, RbeeError } from "../../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import { type LoadedCommand, UsageError } from "../cli.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { HIVE_START_POLL_MS, REMOTE_START_TIMEOUT_MS } from "../limits.ts";
import { resolveNode } from "../node.ts";
import { hiveClient } from "../phases/reach_hive.ts";
import type { NodesInstallFlags, OneNodeFlags } from "../table/nodes.ts";

/** `nodes start`. */
export const NODES_START: LoadedCommand<OneNodeFlags> = { run: runStart };
/** `nodes stop`. */
export const NODES_STOP: LoadedCommand<OneNodeFlags> = { run: runStop };
/** `nodes install`. */
export const NODES_INSTALL: LoadedCommand<NodesInstallFlags> = { run: runInstall };
/** The same where the machine is called `--node`. */
export const SETUP_INSTALL: LoadedCommand<Omit<NodesInstallFlags, "name"> & { node: string }> = {
  run: (context, { node, ...flags }) => runInstall(context, { name: node, ...flags }),
};

/** Of this installation, what another machine makes for itself or has no use for. */
const NOT_COPIED = [".git", ".cache", "node_modules", "worker/native/build", "worker/native/llama.cpp"];

/** A machine that can be worked on. */
interface RemoteNode {
  name: string;
  ssh: string;
  url: string;
  /** For a shell there: below the home folder unless absolute. */
  folder: string;
  place: LoadedConfig;
}

async function remoteNode(name: string): Promise<RemoteNode> {
  const place = await loadConfig();
  const node: NodeConfig | undefined = Object.hasOwn(place.config.nodes, name)
    ? place.config.nodes[name]
    : undefined;
  if (node?.ssh === undefined) {
    const why = node === undefined
      ? `There is no node "${name.slice(0, 80)}"`
      : `It is not known how to reach ${name} by ssh`;
    throw new UsageError([
      `${why}: rbee-keeper nodes add ${node === undefined ? "NAME" : name} --ssh USER@HOST`,
    ], ["nodes"]);
  }
  return {
    name,
    ssh: node.ssh,
    url: node.url,
    folder: shellWord(node.install_path ?? DEFAULT_INSTALL_PATH),
    place,
  };
}

async function runStart({ output, signal }: CommandContext, flags: OneNodeFlags): Promise<number> {
  const node = await remoteNode(flags.name);
  const context = { output, signal, correlationId: newCorrelationId() };
  const version = await startThere(node, context);
  if (output.json) await output.document({ node: node.name, url: node.url, version });
  else output.say(`The hive on ${node.name} answers at ${node.url}, version ${version}.`);
  return 0;
}

async function runStop({ output, signal }: CommandContext, flags: OneNodeFlags): Promise<number> {
  const { name, ssh, folder } = await remoteNode(flags.name);
  output.say(`Stopping the hive on ${name} ...`);
  const said = await there(name, ssh, {
    script: inFolder(folder, STOP_HIVE),
    signal,
  });
  const { stopped } = JSON.parse(said);
  if (output.json) await output.document({ node: name, stopped });
  else output.say(stopped ? `The hive on ${name} is stopped.` : `No hive runs on ${name}.`);
  return 0;
}

/** Starts the hive there and waits until it answers here. */
async function startThere(node: RemoteNode, context: PhaseContext): Promise<string> {
  const { name, ssh, folder } = node;
  const { output, signal } = context;
  output.say(`Starting the hive on ${name} ...`);
  await there(name, ssh, { script: inFolder(folder, START_HIVE), signal });
  const client = hiveClient(await resolveNode(name, await loadConfig()), context);
  const deadlineMs = performance.now() + REMOTE_START_TIMEOUT_MS;
  for (;;) {
    try {
      return (await client.health({ signal, timeoutMs: HEALTH_TIMEOUT_MS })).version;
    } catch (error) {
      signal.throwIfAborted();
      if (!isSilence(error)) throw error;
      if (performance.now() > deadlineMs) {
        throw new RbeeError(
          "NODE_UNREACHABLE",
          `The hive runs on ${name}, and ${node.url} does not answer from here`,
          {
            details: {
              advice: [
                "Open that port in its firewall, and let the hive listen for others (hive.listen: 0.0.0.0:9200 there),",
                `or mend nodes.${name}.url.`,
              ],
            },
            cause: error,
          },
        );
      }
      await delay(HIVE_START_POLL_MS, { signal });
    }
  }
}

async function runInstall({ output, signal }: CommandContext, flags: NodesInstallFlags): Promise<number> {
  const node = await remoteNode(flags.name);
  const { name, ssh, folder } = node;
  const context = { output, signal, correlationId: newCorrelationId() };
  output.say(`Looking at ${name} (${ssh}) ...`);
  await requireTools(node, signal);
  output.say(`Copying rbee to ${name} ...`);
  await there(name, ssh, { script: unpack(folder), stdin: sources(signal), signal });
  await shareKey(node, signal);
  output.say(`Building the engine on ${name}; the first time takes minutes ...`);
  const onLine = (line: string) => output.progress(`Building on ${name}...`, `Building on ${name}: ${line}`);
  await there(name, ssh, {
    script: inFolder(folder, "deno run -q -A tools/build.ts --if-needed 1>&2"),
    onLine,
    signal,
  });
  const version = flags["no-start"] ? undefined : await startThere(node, context);
  if (output.json) await output.document({ node: name, url: node.url, version });
  else if (version === undefined) {
    output.say(`rbee is installed on ${name}. Start it: rbee-keeper nodes start ${name}`);
  } else output.say(`rbee ${version} runs on ${name}: rbee-keeper infer --node ${name} --prompt "..."`);
  return 0;
}

/** All that is missing is told at once. */
async function requireTools({ name, ssh }: RemoteNode, signal: AbortSignal): Promise<void> {
  const script = `for tool in deno cmake git tar npm; do command -v $tool >/dev/null || echo $tool; done
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || echo c++`;
  const missing = (await there(name, ssh, { script, signal })).trim().split("\n").filter((tool) =>
    tool !== ""
  );
  if (missing.length === 0) return;
  throw new RbeeError("NODE_UNREACHABLE", `${name} lacks ${missing.join(", ")}`, {
    details: {
      advice: [
        ...missing.includes("deno") ? ["Deno: npm i -g deno"] : [],
        ...missing.some((tool) => tool !== "deno")
          ? ["The rest, on Debian: apt install cmake g++ make git npm"]
          : [],
      ],
    },
  });
}

/** Unpacks aside and changes places, so that what is there is whole at every moment; what was built stays. */
function unpack(folder: string): string {
  return `set -eu
cd; new=${folder}.new; old=${folder}.old
rm -rf "$new" "$old"; mkdir -p "$new"
tar -xzf - -C "$new"
for made in worker/native/build worker/native/llama.cpp; do
  if test -d ${folder}/"$made"; then mkdir -p "$(dirname "$new/$made")"; cp -a ${folder}/"$made" "$new/$made"; fi
done
if test -d ${folder}; then mv ${folder} "$old"; fi
mv "$new" ${folder}; rm -rf "$old"`;
}

/** This installation as tar writes it. */
function sources(signal: AbortSignal): ReadableStream<Uint8Array<ArrayBuffer>> {
  const root = dirname(dirname(dirname(fromFileUrl(import.meta.url))));
  const args = ["-C", root, ...NOT_COPIED.map((path) => `--exclude=./${path}`), "-czf", "-", "."];
  return new Deno.Command("tar", { args, stdin: "null", stdout: "piped", stderr: "null", signal }).spawn()
    .stdout;
}

/**
 * The hive there gets a key and a configuration to be reached with, unless it has them; the key comes here. Keys go
 * through ssh's pipes only.
 */
async function shareKey({ name, ssh, url, place }: RemoteNode, signal: AbortSignal): Promise<void> {
  const { hostname, port } = new URL(url);
  const listen = `hive: { listen: "0.0.0.0:${port || "80"}", advertise: "${hostname}" }`;
  const script = `set -eu; umask 077
home=\${RBEE_HOME:-$HOME/.rbee}; mkdir -p "$home"
read -r key
test -e "$home/api_key" || printf '%s\\n' "$key" > "$home/api_key"
test -e "$home/config.yaml" || printf '%s\\n' ${shellWord(listen)} > "$home/config.yaml"
cat "$home/api_key"`;
  const key = (await there(name, ssh, { script, stdin: `${newKey()}\n`, signal })).trim();
  const folder = join(place.home, "keys");
  await Deno.mkdir(folder, { recursive: true, mode: HOME_MODE });
  const path = join(folder, `${name}.key`);
  const aside = `${path}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(aside, `${key}\n`, { createNew: true, mode: PRIVATE_FILE_MODE });
  await Deno.rename(aside, path);
  if (place.config.nodes[name].api_key_file === path) return;
  await editConfig(place, (document) => document.setIn(["nodes", name, "api_key_file"], path));
}

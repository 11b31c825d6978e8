/** `nodes install`, `start` and `stop`: the daemon of another machine, over ssh. */
import { delay } from "@std/async";
import { join } from "@std/path";
import { TextLineStream } from "@std/streams";
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { editConfig } from "../../home/config_file.ts";
import type { NodeConfig } from "../../home/config_schema.ts";
import { INSTALLATION, IS_BUNDLED, type Platform } from "../../home/installation.ts";
import { replaceKeyFile } from "../../home/keys.ts";
import { HOME_MODE } from "../../home/paths.ts";
import { DEFAULT_INSTALL_PATH, inFolder, START_HIVE, STOP_HIVE, there } from "../../home/remote_hive.ts";
import { configureThere, installThere } from "../../home/remote_install.ts";
import { shellWord } from "../../home/ssh.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { isSilence, RbeeError } from "../../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import { VERSION } from "../../protocol/version.ts";
import { type LoadedCommand, UsageError } from "../cli.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { withPlace } from "../failure.ts";
import { ARCHIVE_LOG_LINES, HIVE_START_POLL_MS, REMOTE_START_TIMEOUT_MS } from "../limits.ts";
import { type ResolvedNode, resolveNode } from "../node.ts";
import { hiveClient } from "../phases/reach_hive.ts";
import type { NodesInstallFlags, OneNodeFlags } from "../table/nodes.ts";
import { actThroughQueen, throughQueen } from "./nodes_of_queen.ts";

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

async function runStart(command: CommandContext, flags: OneNodeFlags): Promise<number> {
  const { output, signal } = command;
  const done = await throughQueen(
    flags,
    command,
    (queen, context) => actThroughQueen(queen, { act: "start", name: flags.name }, context),
  );
  if (done !== undefined) return done;
  const node = await remoteNode(flags.name);
  const context = { output, signal, correlationId: newCorrelationId() };
  const version = await startThere(node, context);
  if (output.json) await output.document({ node: node.name, url: node.url, version });
  else output.say(`The hive on ${node.name} answers at ${node.url}, version ${version}.`);
  return 0;
}

async function runStop(command: CommandContext, flags: OneNodeFlags): Promise<number> {
  const { output, signal } = command;
  const done = await throughQueen(
    flags,
    command,
    (queen, context) => actThroughQueen(queen, { act: "stop", name: flags.name }, context),
  );
  if (done !== undefined) return done;
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
  const place = await loadConfig();
  const hive = await resolveNode(name, place);
  return await withPlace({ node: hive, configPath: place.path }, () => untilAnswering(hive, context));
}

async function untilAnswering(node: ResolvedNode, context: PhaseContext): Promise<string> {
  const { signal } = context;
  const { name, url } = node;
  const client = hiveClient(node, context);
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
          `The hive runs on ${name}, and ${url} does not answer from here`,
          {
            details: {
              advice: [
                "Open that port in its firewall, and let the hive listen for others (hive.listen: 0.0.0.0:9200 there),",
                `or correct nodes.${name}.url.`,
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

async function runInstall(command: CommandContext, flags: NodesInstallFlags): Promise<number> {
  const { output, signal } = command;
  if (flags.queen !== undefined && (flags.archive !== undefined || flags["no-start"])) {
    throw new UsageError([
      "With --queen it is the queen's own archive, and nothing is started: leave --archive and --no-start out.",
    ], [
      "nodes",
      "install",
    ]);
  }
  const done = await throughQueen(
    flags,
    command,
    (queen, context) => actThroughQueen(queen, { act: "install", name: flags.name }, context),
  );
  if (done !== undefined) return done;
  const node = await remoteNode(flags.name);
  const { name, ssh, folder } = node;
  const context = { output, signal, correlationId: newCorrelationId() };
  const service = !flags["no-start"];
  const onLine = (line: string) => output.progress(`Installing on ${name}...`, `On ${name}: ${line}`);
  output.say(`Looking at ${name} (${ssh}) ...`);
  await installThere({
    ...{ name, ssh, folder, archive: flags.archive, service, onLine, signal },
    async prepare(platform) {
      if (flags.archive === undefined) await makeArchive(platform, context);
      // Before anything that starts a hive, which is to find them.
      await shareKey(node, signal);
      output.say(`Sending rbee ${VERSION} to ${name} ...`);
    },
  });
  const version = service ? await startThere(node, context) : undefined;
  if (output.json) await output.document({ node: name, url: node.url, version });
  else if (version === undefined) {
    output.say(`rbee is installed on ${name}. Start it: rbee-keeper nodes start ${name}`);
  } else output.say(`rbee ${version} runs on ${name}: rbee-keeper infer --node ${name} --prompt "..."`);
  return 0;
}

/** A checkout has no archive until one is made; that for another kind of machine has to be made on one. */
async function makeArchive({ os, arch }: Platform, { output, signal }: PhaseContext): Promise<void> {
  if (IS_BUNDLED || os !== Deno.build.os || arch !== Deno.build.arch) return;
  output.say("Making the archive of this checkout; the first time takes minutes ...");
  const tool = join(INSTALLATION, "tools/bundle.ts");
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", "--config", join(INSTALLATION, "deno.json"), tool],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    signal,
  }).spawn();
  const said: string[] = [];
  for await (
    const line of child.stderr.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
  ) {
    said.push(line);
    output.progress("Making the archive...", line);
  }
  const { success } = await child.status;
  signal.throwIfAborted();
  if (!success) {
    throw new RbeeError("INTERNAL", "The archive of this checkout could not be made", {
      details: { log_tail: said.slice(-ARCHIVE_LOG_LINES) },
    });
  }
}

/** The hive there gets a key and a configuration to be reached with, unless it has them; the key comes here. */
async function shareKey({ name, ssh, url, place }: RemoteNode, signal: AbortSignal): Promise<void> {
  const key = await configureThere({ name, ssh, url, signal });
  const folder = join(place.home, "keys");
  await Deno.mkdir(folder, { recursive: true, mode: HOME_MODE });
  const path = join(folder, `${name}.key`);
  await replaceKeyFile(path, key);
  if (place.config.nodes[name].api_key_file === path) return;
  await editConfig(place, (document) => document.setIn(["nodes", name, "api_key_file"], path));
}

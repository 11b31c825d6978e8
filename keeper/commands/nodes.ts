/** `nodes list`, `add` and `remove`: which machines are known. */
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { editConfig } from "../../home/config_file.ts";
import { NodeConfig } from "../../home/config_schema.ts";
import { NodeName } from "../../protocol/node_name.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { isSilence, RbeeError } from "../../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import { resolve } from "@std/path";
import { type LoadedCommand, UsageError } from "../cli.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { knownNodes, LOCALHOST, resolveNode } from "../node.ts";
import { hiveClient } from "../phases/reach_hive.ts";
import { queenOf } from "../queen.ts";
import { openRegistry } from "../registry.ts";
import { hiveUrlOf } from "../../home/remote_install.ts";
import { sshParts } from "../../home/ssh.ts";
import type { NodesAddFlags, NodesListFlags, OneNodeFlags } from "../table/nodes.ts";
import { textTable } from "../text_table.ts";
import { addToQueen, columnsOf, queensNodes, removeFromQueen, throughQueen } from "./nodes_of_queen.ts";

/** `nodes list`. */
export const NODES_LIST: LoadedCommand<NodesListFlags> = { run: runList };
/** `nodes add`. */
export const NODES_ADD: LoadedCommand<NodesAddFlags> = { check: checkAdd, run: runAdd };
/** `nodes remove`. */
export const NODES_REMOVE: LoadedCommand<OneNodeFlags> = { run: runRemove };

/** What is known of a machine. */
interface NodeReport {
  name: string;
  url: string;
  ssh?: string;
  version?: string;
  /** Why there is no version. */
  error?: string;
}

async function runList({ output, signal }: CommandContext, flags: NodesListFlags): Promise<number> {
  const place = await loadConfig();
  const context = { output, signal, correlationId: newCorrelationId() };
  const queen = await queenOf({ queen: flags.queen }, place);
  const [own, queens] = await Promise.all([
    flags.queen !== undefined
      ? undefined
      : Promise.all(knownNodes(place.config).map((name) => look(name, place, context))),
    queen && queensNodes(queen, place, context),
  ]);
  if (output.json) await output.document({ nodes: own, queen: queen && { url: queen.url, nodes: queens } });
  else {
    const tables = [
      own && textTable(own.map(({ name, url, ssh, version, error }) => ({
        NODE: name,
        URL: url,
        SSH: ssh ?? "",
        HIVE: version === undefined ? error ?? "" : `version ${version}`,
      }))),
      queens &&
      `The machines of the queen at ${queen!.url}:\n` +
        textTable(queens.map((node) => columnsOf(node, Date.now() / 1000))),
    ];
    await output.text(tables.filter(Boolean).join("\n"));
  }
  return 0;
}

async function look(name: string, place: LoadedConfig, context: PhaseContext): Promise<NodeReport> {
  const configured = Object.hasOwn(place.config.nodes, name) ? place.config.nodes[name] : undefined;
  const report: NodeReport = { name, url: configured?.url ?? "", ssh: configured?.ssh };
  try {
    const node = await resolveNode(name, place);
    report.url = node.url;
    const health = await hiveClient(node, context).health({
      signal: context.signal,
      timeoutMs: HEALTH_TIMEOUT_MS,
    });
    report.version = health.version;
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof RbeeError)) throw error;
    report.error = error.message;
    if (isSilence(error)) report.error = name === LOCALHOST ? "not running" : "does not answer";
    if (error.code === "MISSING_API_KEY") {
      report.error = `its key is not known: set nodes.${name}.api_key_file`;
    }
  }
  return report;
}

function checkAdd(flags: Partial<NodesAddFlags>): string[] {
  const problems: string[] = [];
  if (flags.name !== undefined && (!NodeName.safeParse(flags.name).success || flags.name === LOCALHOST)) {
    problems.push(
      `"${flags.name.slice(0, 80)}" can't be a machine's name: letters, digits, . _ -, and not localhost.`,
    );
  }
  if (flags.url === undefined && flags.ssh === undefined) problems.push("--url or --ssh is required.");
  for (const [flag, field] of [["url", "url"], ["ssh", "ssh"], ["install-path", "install_path"]] as const) {
    const value = flags[flag];
    if (value === undefined) continue;
    const result = NodeConfig.shape[field].safeParse(value);
    if (!result.success) {
      problems.push(`--${flag}: ${result.error.issues[0].message}, not "${value.slice(0, 80)}".`);
    }
  }
  return problems;
}

async function runAdd(command: CommandContext, flags: NodesAddFlags): Promise<number> {
  const { output, signal } = command;
  const done = await throughQueen(flags, command, (queen, context) => addToQueen(queen, flags, context));
  if (done !== undefined) return done;
  const place = await loadConfig();
  const known = Object.hasOwn(place.config.nodes, flags.name) ? place.config.nodes[flags.name] : undefined;
  const keyFile = flags["api-key-file"];
  const node = {
    url: flags.url ?? known?.url ?? hiveUrlOf(sshParts(flags.ssh!).host),
    api_key_file: keyFile === undefined ? known?.api_key_file : resolve(keyFile),
    ssh: flags.ssh ?? known?.ssh,
    install_path: flags["install-path"] ?? known?.install_path,
  };
  await editConfig(place, (document) => {
    for (const [field, value] of Object.entries(node)) {
      if (value !== undefined) document.setIn(["nodes", flags.name, field], value);
    }
  });
  const report = await look(flags.name, await loadConfig(), {
    output,
    signal,
    correlationId: newCorrelationId(),
  });
  if (output.json) await output.document(report);
  else {
    output.say(`${known === undefined ? "Added" : "Changed"} ${flags.name} in ${place.path}.`);
    if (report.version === undefined) output.say(`Its hive at ${report.url}: ${report.error}.`);
    else output.say(`Its hive answers, version ${report.version}.`);
  }
  return 0;
}

async function runRemove(command: CommandContext, flags: OneNodeFlags): Promise<number> {
  const { output } = command;
  const done = await throughQueen(
    flags,
    command,
    (queen, context) => removeFromQueen(queen, flags.name, context),
  );
  if (done !== undefined) return done;
  const place = await loadConfig();
  if (!Object.hasOwn(place.config.nodes, flags.name)) {
    const names = Object.keys(place.config.nodes).join(", ") || "none";
    throw new UsageError(
      [`There is no node "${flags.name.slice(0, 80)}" in ${place.path}. Known: ${names}.`],
      ["nodes"],
    );
  }
  await editConfig(place, (document) => {
    document.deleteIn(["nodes", flags.name]);
    if (Object.keys(place.config.nodes).length === 1) document.deleteIn(["nodes"]);
  });
  using registry = await openRegistry(place.home);
  for (const worker of registry.list(flags.name)) registry.forget(worker);
  if (output.json) await output.document({ removed: flags.name });
  else output.say(`Removed ${flags.name} from ${place.path}. Its hive, if one runs, runs on.`);
  return 0;
}

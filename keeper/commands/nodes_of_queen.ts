/** `nodes … --queen`: the machines that a queen knows, and what it does to them. */
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { sshParts } from "../../home/ssh.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import type { NodeInfo } from "../../protocol/queen_schemas.ts";
import { ago } from "../ago.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { QUEEN_INSTALL_TIMEOUT_MS, QUEEN_START_TIMEOUT_MS } from "../limits.ts";
import { type QueenAddress, queenOf } from "../queen.ts";
import type { NodesAddFlags } from "../table/nodes.ts";
import { ask } from "./queen_calls.ts";

/** A machine as the queen lists it, with its state in a few words. */
export interface QueensNode extends Pick<NodeInfo, "presence" | "version" | "memory" | "cpu" | "cordoned"> {
  name: string;
  url: string;
  ssh?: string;
  /** `up, 2 workers`, or why not. */
  state: string;
  since_unix: number | null;
  devices: string[];
  slots_busy: number;
  slots_total: number;
  labels: string[];
}

/** Where a queen is asked from: what the configuration says, and a person who waits. */
export type QueenContext = PhaseContext & { place: LoadedConfig };

/** Does it by way of the queen that `--queen` names; undefined when it names none. */
export async function throughQueen(
  flags: { queen?: string },
  { output, signal }: CommandContext,
  act: (queen: QueenAddress, context: QueenContext) => Promise<number>,
): Promise<number | undefined> {
  if (flags.queen === undefined) return undefined;
  const place = await loadConfig();
  const queen = await queenOf({ queen: flags.queen }, place);
  return await act(queen!, { place, output, signal, correlationId: newCorrelationId() });
}

/** All of them. */
export async function queensNodes(
  queen: QueenAddress,
  place: LoadedConfig,
  { correlationId, signal }: PhaseContext,
): Promise<QueensNode[]> {
  const work = (client: QueenClient) => client.nodes({ signal });
  return (await ask(queen, place, { correlationId, work })).map(asShown);
}

/** Tells it of one. */
export async function addToQueen(
  queen: QueenAddress,
  flags: NodesAddFlags,
  { place, output, correlationId, signal }: QueenContext,
): Promise<number> {
  const { user, host, port } = flags.ssh === undefined ? {} : sshParts(flags.ssh);
  const work = (client: QueenClient) =>
    client.addNode({
      ...{ node_name: flags.name, hive_url: flags.url, install_path: flags["install-path"] },
      ...{ ssh_user: user, ssh_host: host, ssh_port: port },
    }, { signal });
  const node = asShown(await ask(queen, place, { correlationId, work }));
  if (output.json) await output.document(node);
  else output.say(`The queen knows ${node.name}: ${node.state}.`);
  return 0;
}

/** Has it forget one. */
export async function removeFromQueen(
  queen: QueenAddress,
  name: string,
  { place, output, correlationId, signal }: QueenContext,
): Promise<number> {
  await ask(queen, place, { correlationId, work: (client) => client.removeNode(name, { signal }) });
  if (output.json) await output.document({ removed: name });
  else output.say(`The queen has forgotten ${name}. Its hive, if one runs, runs on.`);
  return 0;
}

const ACTS = {
  install: { call: "installNode", doing: "Installing rbee on", done: "rbee is installed on" },
  start: { call: "startNode", doing: "Starting the hive on", done: "The hive runs on" },
  stop: { call: "stopNode", doing: "Stopping the hive on", done: "The hive is stopped on" },
} as const;

/** Has it do something to one over ssh, from where it is. */
export async function actThroughQueen(
  queen: QueenAddress,
  { act, name }: { act: keyof typeof ACTS; name: string },
  { place, output, correlationId, signal }: QueenContext,
): Promise<number> {
  const { call, doing, done } = ACTS[act];
  output.say(`${doing} ${name}, from where the queen is ...`);
  const timeoutMs = act === "install" ? QUEEN_INSTALL_TIMEOUT_MS : QUEEN_START_TIMEOUT_MS;
  const work = (client: QueenClient) => client.onNode(call, name, { signal, timeoutMs });
  const node = asShown(await ask(queen, place, { correlationId, work }));
  if (output.json) await output.document(node);
  else output.say(`${done} ${name} (${node.state}).`);
  return 0;
}

/** One as it is shown. */
export function asShown(node: NodeInfo): QueensNode {
  const { ssh_host: host, ssh_user: user, ssh_port: port } = node;
  const ssh = host === null ? undefined : `${user === null ? "" : `${user}@`}${host}:${port}`;
  const { presence, version, memory, cpu, cordoned, since_unix, devices, slots_busy, slots_total, labels } =
    node;
  return {
    ...{ name: node.node_name, url: node.hive_url ?? "", ssh, state: stateOf(node) },
    ...{ presence, version, memory, cpu, cordoned, since_unix, devices, slots_busy, slots_total, labels },
  };
}

function stateOf({ presence, workers, cordoned, last_error: error }: NodeInfo): string {
  const mark = cordoned ? ", cordoned" : "";
  if (presence === "up") return `up, ${workers === 1 ? "1 worker" : `${workers} workers`}${mark}`;
  const state = { stale: "not heard of lately", down: "down", never: "never heard of" }[presence ?? "never"];
  return `${error ?? state}${mark}`;
}

const MB_PER_GB = 1_000;

/** One as a row of a list. */
export function columnsOf(node: QueensNode, nowUnix: number): Record<string, string> {
  const { memory, cpu, presence } = node;
  // A silent machine's last figures are out of date.
  const told = presence === "up";
  const gb = (mb: number) => (Math.max(0, mb) / MB_PER_GB).toFixed(1);
  return {
    NODE: node.name,
    URL: node.url,
    SSH: node.ssh ?? "",
    HIVE: node.state,
    SINCE: node.since_unix === null ? "" : ago(node.since_unix, nowUnix),
    VERSION: node.version ?? "",
    LOAD: told && cpu !== null ? `${cpu.load.toFixed(1)} of ${cpu.cores}` : "",
    "FREE MEMORY": told && memory !== null
      ? `${gb(memory.free_mb - memory.reserve_mb)} of ${gb(memory.total_mb)} GB`
      : "",
    DEVICES: node.devices.join(" "),
    "FREE SLOTS": told ? `${node.slots_total - node.slots_busy}/${node.slots_total}` : "",
    LABELS: node.labels.join(" "),
  };
}

/**
 * Errors for a person: what failed, what was tried, what to do. Pure: from an error and what is known of the place
 * where it happened to lines of text.
 */
import type { ErrorCode, RbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import { LOG_TAIL_LINES } from "./limits.ts";

/** What is known of where something failed; grows while a command runs. */
export interface Place {
  /** `config.yaml`. */
  configPath?: string;
  /** The node that was asked. */
  node?: { name: string; url: string; keySource: string; keySetting?: string; local: boolean };
  /** The log of this machine's hive. */
  hiveLog?: string;
}

/** See the file's comment. */
export interface Explanation {
  /** What failed. */
  headline: string;
  /** Facts and advice, one per line. */
  notes: string[];
}

/** Explains an error of the catalogue. */
export function explain(error: RbeeError, place: Place = {}): Explanation {
  const headline = headlineOf(error);
  const notes = [...facts(error), ...(ADVICE[error.code]?.(error, place) ?? [])];
  if (error.code === "INTERNAL" && error.correlationId) notes.push(`Correlation id: ${error.correlationId}`);
  return { headline, notes };
}

function headlineOf(error: RbeeError): string {
  // It was right when the request began.
  if (error.details.reason === "removed") return error.message;
  return error.code === "INVALID_API_KEY" || error.code === "MISSING_API_KEY"
    ? "Authentication failed"
    : error.message;
}

/** What the details say, whatever the code. */
function facts({ details }: RbeeError): string[] {
  const notes: string[] = [];
  const { required_mb: required, available_mb: available } = details;
  if (typeof required === "number" && typeof available === "number") {
    notes.push(`Required: ${Math.ceil(required)} MB, available: ${Math.floor(available)} MB`);
  }
  if (typeof details.partial_path === "string") notes.push(`Partial answer saved to ${details.partial_path}`);
  if (typeof details.partial_error === "string") {
    notes.push(`The partial answer could not be saved: ${details.partial_error}`);
  }
  if (typeof details.tokens_generated === "number") {
    const most = typeof details.max_tokens === "number" ? ` / ${details.max_tokens}` : "";
    notes.push(`Tokens generated: ${details.tokens_generated}${most}`);
  }
  if (Array.isArray(details.advice)) notes.push(...details.advice.map(String));
  const tail = details.log_tail;
  if (Array.isArray(tail) && tail.length > 0) {
    notes.push("The log ends with:", ...tail.slice(-LOG_TAIL_LINES).map((line) => `  ${line}`));
  }
  return notes;
}

const ADVICE: Partial<Record<ErrorCode, (error: RbeeError, place: Place) => string[]>> = {
  NODE_UNREACHABLE: unreachable,
  CONNECTION_TIMEOUT: unreachable,
  INVALID_API_KEY: wrongKey,
  MISSING_API_KEY: wrongKey,
  FORBIDDEN: lacksRight,
  VERSION_MISMATCH: upgrade,
  ALL_SLOTS_BUSY: () => [
    "Try again later or with a larger --retry, use another --node, or start a larger worker with more --slots.",
  ],
  WORKER_CRASHED: () => ["Run the same command again: a new worker will be started."],
  LOADING_TIMEOUT:
    () => ["Use a smaller model or quantisation, or raise hive.load_timeout in the node's config.yaml."],
  MODEL_ACCESS_DENIED: (_, { node }) => [
    `Accept the model's terms at the hub, then start the hive${
      node ? ` on ${node.name}` : ""
    } with HF_TOKEN set.`,
  ],
  MODEL_IN_USE: () => [
    "rbee-keeper workers list shows the workers; each leaves by itself when it has been idle for a while.",
  ],
  BACKEND_UNAVAILABLE: () => ["Choose one of those with --backend, or leave it to auto."],
  DEVICE_NOT_FOUND: () => ["Choose one of those with --device."],
};

function unreachable(error: RbeeError, { node, hiveLog, configPath }: Place): string[] {
  if (error.details.log !== undefined) return [`The whole log: ${error.details.log}`];
  // A worker that can't be reached brings its own advice.
  if (node === undefined || error.details.hive === undefined) return [];
  if (node.local) {
    return [`Perhaps no hive runs on this machine: infer starts one when it needs it. Its log: ${hiveLog}`];
  }
  return [
    `Check that a hive runs there (on that machine: rbee-hive daemon --listen 0.0.0.0:${
      new URL(node.url).port
    }),`,
    `that no firewall is in between, and that the address is right (nodes.${node.name}.url in ${configPath}).`,
  ];
}

function wrongKey(_: RbeeError, { node, configPath }: Place): string[] {
  if (node === undefined) return [];
  const where = node.local
    ? "Another home's hive may be listening there (RBEE_HOME), or the key was changed while the hive ran: rbee-keeper daemon restart"
    : node.keySetting === undefined
    ? `Put its key into a file (mode 0600): rbee-keeper nodes add NAME --url ${node.url} --api-key-file FILE`
    : `Put its key into a file (mode 0600) and name it as ${node.keySetting} in the config.`;
  return [`Node: ${node.name} (${node.url})`, `Config: ${configPath}`, `Key: ${node.keySource}`, where];
}

function lacksRight(_: RbeeError, { node }: Place): string[] {
  return node === undefined ? [] : [`Node: ${node.name} (${node.url})`, `Key: ${node.keySource}`];
}

function upgrade({ details }: RbeeError, { node }: Place): string[] {
  if (details.older === "keeper") {
    return [
      `Upgrade this keeper to ${details.hive_version}: update this installation of rbee and run the command again.`,
    ];
  }
  const name = node?.name ?? "that machine";
  if (node?.local) {
    return [
      "The hive of this machine was started by another version. Stop it with rbee-keeper daemon stop:",
      "the next command starts the present one.",
    ];
  }
  return [`Upgrade rbee on ${name} to ${VERSION} and restart its hive there: rbee-hive daemon`];
}

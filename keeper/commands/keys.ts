/** `keys …` and `config reload`: calls to a queen with its owner's key. */
import {
  boundToNode,
  type ChangeKeyRequest,
  KEY_FIELDS,
  type KeyInfo,
  KeyName,
  type NewKeyResponse,
} from "../../protocol/key_schemas.ts";
import * as z from "zod";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import {
  type ConfigReloadFlags,
  type KeysAddFlags,
  type KeysChangeFlags,
  type KeysListFlags,
  type KeysUsageFlags,
  LIMIT_FLAG_NAMES,
  type LimitFlags,
  type OneKeyFlags,
} from "../table/keys.ts";
import { textTable } from "../text_table.ts";
import { askMeant } from "./queen_calls.ts";

/** `keys list`. */
export const KEYS_LIST: LoadedCommand<KeysListFlags> = { run: runList };
/** `keys add`. */
export const KEYS_ADD: LoadedCommand<KeysAddFlags> = { check: checkAdd, run: runAdd };
/** `keys change`. */
export const KEYS_CHANGE: LoadedCommand<KeysChangeFlags> = { check: checkChange, run: runChange };
/** `keys rotate`. */
export const KEYS_ROTATE: LoadedCommand<OneKeyFlags> = { run: runRotate };
/** `keys remove`. */
export const KEYS_REMOVE: LoadedCommand<OneKeyFlags> = { run: runRemove };
/** `keys usage`. */
export const KEYS_USAGE: LoadedCommand<KeysUsageFlags> = { run: runUsage };
/** `config reload`. */
export const CONFIG_RELOAD: LoadedCommand<ConfigReloadFlags> = { run: runReload };

async function runList({ output, signal }: CommandContext, flags: KeysListFlags): Promise<number> {
  const keys = await askMeant(flags, signal, (queen, options) => queen.keys(options));
  if (output.json) await output.document({ keys });
  else if (keys.length === 0) output.say("There are no keys beside the queen's own. Make one: keys add NAME");
  else await output.text(textTable(keys.map(rowOf)));
  return 0;
}

function rowOf(key: KeyInfo): Record<string, string> {
  const limits = [
    key.requests_per_minute && `${key.requests_per_minute} requests/min`,
    key.tokens_per_minute && `${key.tokens_per_minute} tokens/min`,
    key.tokens_per_day && `${key.tokens_per_day} tokens/day`,
    key.context && `${key.context} tokens/request`,
    key.models && `models ${key.models.join(" ")}`,
    key.nodes && `nodes ${key.nodes.join(" ")}`,
    !key.grammar && "no grammar",
    !key.downloads && "no downloads",
    key.priority === "batch" && "batch only",
  ];
  return {
    KEY: key.name,
    RIGHTS: key.rights.join(", ") + (key.node === null ? "" : ` of ${key.node}`),
    SHARE: String(key.share),
    LIMITS: limits.filter(Boolean).join(", "),
    SHA256: `${key.fp6}…`,
    FROM: key.source === "config" ? "config.yaml" : dayOf(key.rotated_unix!),
  };
}

function checkAdd({ name, rights, node }: Partial<KeysAddFlags>): string[] {
  const problems: string[] = [];
  if (name !== undefined && !KeyName.safeParse(name).success) {
    problems.push(`"${name.slice(0, 80)}" can't be a key's name: 1 to 64 letters, digits, . _ and -.`);
  }
  const { rights: Rights, node: Node } = KEY_FIELDS;
  const bound = boundToNode(z.object({ rights: Rights, node: Node })).safeParse({
    rights: rights?.length ? rights : undefined,
    node,
  });
  return [
    ...problems,
    ...bound.error?.issues.map(({ path, message }) => `--${path.join(".")}: ${message}.`) ?? [],
  ];
}

async function runAdd({ output, signal }: CommandContext, flags: KeysAddFlags): Promise<number> {
  const key = await askMeant(flags, signal, (queen, options) =>
    queen.addKey({
      name: flags.name,
      rights: flags.rights?.length ? flags.rights as KeyInfo["rights"] : undefined,
      node: flags.node,
      ...limitsIn(flags),
    }, options));
  await tell(output, key, "is made");
  return 0;
}

/** What the flags say, as the queen takes it. */
function limitsIn(flags: LimitFlags) {
  const listed = (list: string[]) => list.length > 0 ? list : undefined;
  const isYes = (text: string | undefined) => text === undefined ? undefined : text === "yes";
  return {
    ...{ share: flags.share, context: flags.context, cache_group: flags["cache-group"] },
    requests_per_minute: flags["requests-per-minute"],
    tokens_per_minute: flags["tokens-per-minute"],
    tokens_per_day: flags["tokens-per-day"],
    ...{ models: listed(flags.models), nodes: listed(flags.nodes) },
    ...{ grammar: isYes(flags.grammar), downloads: isYes(flags.downloads) },
    priority: flags.priority as KeyInfo["priority"] | undefined,
  };
}

/** What is said, by the queen's names; what is to be unset is null. */
function changeIn(flags: KeysChangeFlags): ChangeKeyRequest {
  const unset = flags.unset.map((flag) => [flag.replaceAll("-", "_"), null]);
  const said = Object.entries(limitsIn(flags)).filter(([, value]) => value !== undefined);
  return Object.fromEntries([...said, ...unset]);
}

function checkChange(flags: Partial<KeysChangeFlags>): string[] {
  const { unset = [] } = flags;
  const isSaid = (flag: string) =>
    [flags[flag as keyof KeysChangeFlags]].flat().some((value) => value !== undefined);
  const both = unset.filter(isSaid).map((flag) => `--${flag} is given, and to be unset: say one of the two.`);
  if (LIMIT_FLAG_NAMES.some(isSaid) || unset.length > 0) return both;
  return [`Say what is to change: ${LIMIT_FLAG_NAMES.map((flag) => `--${flag}`).join(", ")}, or --unset.`];
}

async function runChange({ output, signal }: CommandContext, flags: KeysChangeFlags): Promise<number> {
  const change = changeIn(flags);
  const key = await askMeant(flags, signal, (queen, options) => queen.changeKey(flags.name, change, options));
  if (output.json) await output.document(key);
  else await output.text(textTable([rowOf(key)]));
  return 0;
}

async function runRotate({ output, signal }: CommandContext, flags: OneKeyFlags): Promise<number> {
  const key = await askMeant(flags, signal, (queen, options) => queen.rotateKey(flags.name, options));
  await tell(output, key, "has a new secret; the old one is void");
  return 0;
}

/** The secret alone goes to stdout: it can be sent into a file. */
async function tell(output: CommandContext["output"], key: NewKeyResponse, what: string): Promise<void> {
  if (output.json) return await output.document(key);
  output.say(`The key ${key.name} ${what}. It is not shown again:`);
  await output.line(key.key);
}

async function runRemove({ output, signal }: CommandContext, flags: OneKeyFlags): Promise<number> {
  await askMeant(flags, signal, (queen, options) => queen.removeKey(flags.name, options));
  if (output.json) await output.document({ removed: flags.name });
  else output.say(`The key ${flags.name} is removed.`);
  return 0;
}

async function runUsage({ output, signal }: CommandContext, flags: KeysUsageFlags): Promise<number> {
  const { name: key, from, to } = flags;
  const usage = await askMeant(flags, signal, (queen, options) => queen.usage({ key, from, to }, options));
  if (output.json) await output.document({ usage });
  else if (usage.length === 0) output.say("Nothing was used in that time.");
  else {
    await output.text(textTable(usage.map((row) => ({
      DAY: row.day,
      KEY: row.key,
      MODEL: row.model,
      REQUESTS: String(row.requests),
      READ: String(row.tokens_read),
      CACHED: String(row.tokens_cached),
      MADE: String(row.tokens_made),
      SECONDS: row.seconds.toFixed(1),
    }))));
  }
  return 0;
}

async function runReload({ output, signal }: CommandContext, flags: ConfigReloadFlags): Promise<number> {
  const { reloaded, restart_needed: later } = await askMeant(
    flags,
    signal,
    (queen, options) => queen.reloadConfig(options),
  );
  if (output.json) await output.document({ reloaded, restart_needed: later });
  else {
    output.say(`The queen has taken over: ${reloaded.join(", ")}.`);
    if (later.length > 0) output.insist(`Changed, and counts from its next start: ${later.join(", ")}.`);
  }
  return 0;
}

function dayOf(unix: number): string {
  return new Date(unix * 1000).toISOString().slice(0, 10);
}

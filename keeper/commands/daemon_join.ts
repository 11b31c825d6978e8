/** `daemon join`: this machine's hive reports to a queen from now on, after a restart and a reboot as well. */
import { join, resolve } from "@std/path";
import { editConfig } from "../../home/config_file.ts";
import { loadConfig } from "../../home/config.ts";
import { readKeyFile, replaceKeyFile } from "../../home/keys.ts";
import { ensureHome } from "../../home/paths.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { NodeName } from "../../protocol/node_name.ts";
import { type LoadedCommand, UsageError } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { LOCALHOST, resolveNode } from "../node.ts";
import type { DaemonJoinFlags } from "../table/system.ts";
import { withConfig } from "../with_config.ts";
import { restart } from "./daemon.ts";

/** The command. */
export const DAEMON_JOIN: LoadedCommand<DaemonJoinFlags> = { check: checkJoin, run: runJoin };

/** What stands for stdin. */
const STDIN = "-";
const MAX_KEY_BYTES = 8192;

function checkJoin({ queen, name }: Partial<DaemonJoinFlags>): string[] {
  const problems: string[] = [];
  if (queen !== undefined && (!/^https?:\/\/[^/]+\/?$/.test(queen) || !URL.canParse(queen))) {
    problems.push(`--queen takes http://HOST:PORT, not "${queen.slice(0, 80)}".`);
  }
  if (name !== undefined && !NodeName.safeParse(name).success) {
    problems.push(`--name takes letters, digits, . _ and -, not "${name.slice(0, 80)}".`);
  }
  return problems;
}

async function runJoin({ output, signal }: CommandContext, flags: DaemonJoinFlags): Promise<number> {
  const place = await loadConfig();
  const keyFile = flags["key-file"] === undefined
    ? undefined
    : await keyFileFor(flags["key-file"], place.home);
  const settings = {
    queen: flags.queen.replace(/\/$/, ""),
    name: flags.name,
    queen_key_file: keyFile,
  };
  await editConfig(place, (document) => {
    for (const [key, value] of Object.entries(settings)) {
      if (value !== undefined) document.setIn(["hive", key], value);
    }
  });
  output.say(`The hive of this machine reports to ${settings.queen} (${place.path}).`);
  if (flags["no-start"]) {
    if (output.json) await output.document({ ...settings, started: false });
    return 0;
  }
  return await withConfig(async (config, at) => {
    at.node = await resolveNode(LOCALHOST, config);
    return await restart(config, { output, signal, correlationId: newCorrelationId() });
  });
}

/** The file that the configuration is to name: the one that was given, or one of this home's with what stdin says. */
async function keyFileFor(given: string, home: string): Promise<string> {
  if (given !== STDIN) {
    const path = resolve(given);
    await readKeyFile(path);
    return path;
  }
  const key = await keyFromStdin();
  await ensureHome(home);
  const path = join(home, "queen.key");
  try {
    await replaceKeyFile(path, key);
  } catch (error) {
    if (error instanceof RbeeError) {
      throw new UsageError(["What stdin says is not a key."], ["daemon", "join"]);
    }
    throw error;
  }
  return path;
}

async function keyFromStdin(): Promise<string> {
  let text = "";
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    if (text.length > MAX_KEY_BYTES) break;
  }
  return text.trim();
}

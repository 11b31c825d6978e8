/** The queen that this keeper goes through, if it goes through one. */
import type { LoadedConfig } from "../home/config.ts";
import { keyForAddress, readKeyFile } from "../home/keys.ts";
import { UsageError } from "./cli.ts";
import type { ResolvedNode } from "./node.ts";
import type { WorkerFlags } from "./table/shared.ts";

/** Whom to ask, and for what machine. */
export interface QueenAddress {
  url: string;
  /** Absent when none is configured that is meant for this address. */
  apiKey: string | undefined;
  /** Only there; absent: wherever it fits. */
  node?: string;
}

/** What one worker of one hive is to be like is no business of a whole cluster's. */
const NOT_THROUGH_QUEENS = ["slots", "ctx-size", "idle-timeout", "pin"] as const;

/**
 * The queen that flags or configuration name.
 *
 * @throws {UsageError} for an address that is none, and for flags that it has no use for.
 */
export async function queenOf(
  flags: Partial<WorkerFlags> & { queen?: string; node?: string },
  { config, home }: LoadedConfig,
): Promise<QueenAddress | undefined> {
  const url = flags.queen ?? config.keeper.queen;
  if (url === undefined) return undefined;
  if (!/^https?:\/\/[^/]+\/?$/.test(url) || !URL.canParse(url)) {
    throw new UsageError([`--queen ${url.slice(0, 80)}: expected http://HOST:PORT.`], ["infer"]);
  }
  const useless = NOT_THROUGH_QUEENS.filter((name) => flags[name] !== undefined && flags[name] !== false);
  if (useless.length > 0) {
    throw new UsageError(
      useless.map((name) =>
        `--${name} is about one worker of one hive; leave it out, or go without a queen.`
      ),
      ["infer"],
    );
  }
  const { queen_key_file: keyFile } = config.keeper;
  const apiKey = keyFile === undefined
    ? await keyForAddress(url, { config, home })
    : await readKeyFile(keyFile);
  return { url: url.replace(/\/$/, ""), apiKey, node: flags.node };
}

/** As errors name it. */
export function placeOfQueen(
  queen: QueenAddress,
): Pick<ResolvedNode, "name" | "url" | "keySource" | "keySetting" | "local"> {
  const keySetting = "keeper.queen_key_file";
  const keySource = queen.apiKey === undefined ? `none (${keySetting} is not set)` : keySetting;
  return { name: "the queen", url: queen.url, keySource, keySetting, local: false };
}

/** Where rbee keeps things: one private folder per person. */
import { join, resolve } from "@std/path";
import { RbeeError } from "../protocol/errors.ts";

/** Environment access, so that tests need not change the process's own. */
export interface Environment {
  /** As `Deno.env.get`. */
  get(name: string): string | undefined;
}

/** Only the owner may look inside. */
export const HOME_MODE = 0o700;
/** Databases, keys and logs are for the owner alone. */
export const PRIVATE_FILE_MODE = 0o600;

/**
 * `RBEE_HOME`, else `~/.rbee`, always absolute: a daemon started from here may run elsewhere. Nothing is created.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the environment names no place.
 */
export function rbeeHome(env: Environment = Deno.env): string {
  const explicit = env.get("RBEE_HOME");
  if (explicit) return resolve(explicit);
  const home = env.get("HOME") || env.get("USERPROFILE");
  if (!home) {
    throw new RbeeError(
      "INVALID_REQUEST",
      "Neither RBEE_HOME nor HOME is set: rbee has no place for its files. Set RBEE_HOME.",
    );
  }
  return resolve(join(home, ".rbee"));
}

/** Creates the home folder with `logs/` in it and closes it to others. */
export async function ensureHome(home: string): Promise<void> {
  await Deno.mkdir(join(home, "logs"), { recursive: true, mode: HOME_MODE });
  const info = await Deno.stat(home);
  if (info.mode !== null && (info.mode & 0o077) !== 0) await Deno.chmod(home, HOME_MODE);
}

/** Where a hive that was started in the background writes its log. */
export function hiveLogPath(home: string): string {
  return join(home, "logs", "hive.log");
}

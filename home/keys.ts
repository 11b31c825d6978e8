/** API keys: where they come from and what may be shown of them. */
import { dirname, join } from "@std/path";
import { RbeeError } from "../protocol/errors.ts";
import type { Config } from "./config_schema.ts";
import { type Environment, PRIVATE_FILE_MODE } from "./paths.ts";
import { isThisMachine } from "./this_machine.ts";

const KEY = /^[\x21-\x7e]{8,4096}$/;
const MAX_KEY_FILE_BYTES = 8192;

/** A fresh random key, 256 bits. */
export function newKey(): string {
  return `rbee-${
    crypto.getRandomValues(new Uint8Array(32)).toBase64({ alphabet: "base64url", omitPadding: true })
  }`;
}

/** All that logs may show of a key: the first six hex digits of its SHA-256. */
export async function fingerprint(key: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  return new Uint8Array(digest).toHex().slice(0, 6);
}

/**
 * Reads a key file: mode 0600 or 0400, one non-blank line. What systemd hands over as a credential may have mode 0440:
 * the service's user is let in by an access list, and that list's mask shows as the group's.
 *
 * @throws {RbeeError} `INVALID_REQUEST` that says what is wrong with the file and how to mend it.
 */
export async function readKeyFile(path: string, env: Environment = Deno.env): Promise<string> {
  const fail = (why: string, cause?: unknown): never => {
    throw new RbeeError("INVALID_REQUEST", `Cannot use key file ${path}: ${why}`, { cause });
  };
  let info: Deno.FileInfo;
  let text: string;
  try {
    info = await Deno.stat(path);
    if (!info.isFile) return fail("it is not a regular file");
    if (info.size > MAX_KEY_FILE_BYTES) return fail(`it is larger than ${MAX_KEY_FILE_BYTES} bytes`);
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof RbeeError) throw error;
    return fail(error instanceof Deno.errors.NotFound ? "it does not exist" : "it cannot be read", error);
  }
  if (info.mode !== null) {
    const mode = info.mode & 0o777;
    const isPrivate = mode === 0o600 || mode === 0o400 || (mode === 0o440 && await isCredential(path, env));
    if (!isPrivate) {
      return fail(`its mode is 0${mode.toString(8)}, others could read it; run: chmod 600 ${path}`);
    }
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");
  if (lines.length !== 1) return fail(`it must hold exactly one non-blank line, it has ${lines.length}`);
  if (!KEY.test(lines[0])) return fail("the key must be 8 to 4096 printable characters without spaces");
  return lines[0];
}

/** Whether the file lies in the folder that systemd made for this service's credentials alone. */
async function isCredential(path: string, env: Environment): Promise<boolean> {
  const folder = env.get("CREDENTIALS_DIRECTORY");
  if (!folder) return false;
  try {
    return dirname(await Deno.realPath(path)) === await Deno.realPath(folder);
  } catch {
    return false;
  }
}

/** The file with the key that zero configuration uses. */
export function localKeyPath(home: string): string {
  return join(home, "api_key");
}

/** The configured key, else the local one if it exists; undefined when there is none. */
export async function configuredKey(config: Config, home: string): Promise<string | undefined> {
  if (config.api_key !== undefined) {
    if (KEY.test(config.api_key)) return config.api_key;
    throw new RbeeError("INVALID_REQUEST", "api_key must be 8 to 4096 printable characters without spaces.");
  }
  if (config.api_key_file !== undefined) return await readKeyFile(config.api_key_file);
  try {
    await Deno.lstat(localKeyPath(home));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  return await readKeyFile(localKeyPath(home));
}

/**
 * The key for a daemon at `url` for which no key file is configured: this home's own where that is this machine itself,
 * else none. What is meant for this machine must not reach whoever listens at a mistyped address.
 */
export async function keyForAddress(
  url: string,
  { config, home }: { config: Config; home: string },
): Promise<string | undefined> {
  return isThisMachine(url) ? await configuredKey(config, home) : undefined;
}

/**
 * Puts a key into a file, over the one before. Whoever reads the file meanwhile gets the old key or the new one.
 *
 * @throws {RbeeError} as {@linkcode readKeyFile}, when the text is not a key; the file stays as it was.
 */
export async function replaceKeyFile(path: string, key: string): Promise<void> {
  const aside = `${path}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(aside, `${key}\n`, { createNew: true, mode: PRIVATE_FILE_MODE });
  try {
    await readKeyFile(aside);
    await Deno.rename(aside, path);
  } catch (error) {
    await Deno.remove(aside);
    throw error;
  }
}

/** Creates the local key, or returns the one that another process created first. */
export async function createLocalKey(home: string): Promise<string> {
  const path = localKeyPath(home);
  const key = newKey();
  // Written aside and linked: whoever sees the file sees the whole key.
  const aside = `${path}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(aside, `${key}\n`, { createNew: true, mode: PRIVATE_FILE_MODE });
  try {
    await Deno.link(aside, path);
    return key;
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return await readKeyFile(path);
    throw error;
  } finally {
    await Deno.remove(aside);
  }
}

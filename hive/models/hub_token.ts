/** The hub token: where it may stand, and how it is read. */
import { join } from "@std/path";
import type { Config } from "../../home/config_schema.ts";
import type { Environment } from "../../home/paths.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { hubHome } from "./cache.ts";
import { MAX_TOKEN_FILE_BYTES } from "./limits.ts";

/** A token and where it was found. */
export interface HubToken {
  /** The secret: only ever sent to the hub's own origin. */
  value: string;
  /** For messages: `HF_TOKEN` or a path. */
  source: string;
}

const TOKEN = /^[\x21-\x7e]+$/;

/**
 * The token of `HF_TOKEN`, else of `hub.token_file`, else of the file that `hf auth login` writes (`HF_TOKEN_PATH`,
 * by default `token` in the Hugging Face home); undefined when there is none. Read anew for each download, so that
 * a login is noticed without a restart.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the one that counts cannot be used.
 */
export async function readHubToken(config: Config, env: Environment): Promise<HubToken | undefined> {
  const fromEnv = env.get("HF_TOKEN")?.trim();
  if (fromEnv) return checked({ value: fromEnv, source: "HF_TOKEN" });
  if (config.hub.token_file !== undefined) {
    return await readTokenFile(config.hub.token_file, { required: true });
  }
  const path = env.get("HF_TOKEN_PATH") || join(hubHome(env), "token");
  return await readTokenFile(path, { required: false });
}

async function readTokenFile(path: string, options: { required: boolean }): Promise<HubToken | undefined> {
  try {
    if ((await Deno.stat(path)).size > MAX_TOKEN_FILE_BYTES) throw new Error("it is too large");
    const value = (await Deno.readTextFile(path)).trim();
    if (value !== "") return checked({ value, source: path });
    if (!options.required) return undefined;
    throw new Error("it is empty");
  } catch (error) {
    if (error instanceof RbeeError) throw error;
    if (error instanceof Deno.errors.NotFound && !options.required) return undefined;
    const why = error instanceof Error ? error.message : String(error);
    throw new RbeeError("INVALID_REQUEST", `Cannot use the hub token in ${path}: ${why}. Mend the file.`, {
      cause: error,
    });
  }
}

function checked(token: HubToken): HubToken {
  if (TOKEN.test(token.value)) return token;
  throw new RbeeError(
    "INVALID_REQUEST",
    `The hub token in ${token.source} has characters no token can have.`,
  );
}

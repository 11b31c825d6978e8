/** The key that a daemon asks of its callers (SPEC §3): never open, and no configuration needed on one machine. */
import type { Config } from "../home/config_schema.ts";
import { configuredKey, createLocalKey } from "../home/keys.ts";
import { ensureHome } from "../home/paths.ts";
import { isLoopback } from "../home/this_machine.ts";
import { RbeeError } from "../protocol/errors.ts";

/**
 * The configured key; on loopback, where there is none, a fresh one in the home folder.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when others could reach the daemon and no key is configured.
 */
export async function ownKey(options: { config: Config; home: string; hostname: string }): Promise<string> {
  const { config, home, hostname } = options;
  const configured = await configuredKey(config, home);
  if (configured !== undefined) return configured;
  if (isLoopback(hostname)) {
    await ensureHome(home);
    return await createLocalKey(home);
  }
  throw new RbeeError(
    "INVALID_REQUEST",
    `${hostname} can be reached by others, and no key is configured. Make one and name it in config.yaml:\n` +
      `  (umask 077; head -c 32 /dev/urandom | base64 | tr -d '\\n=/+' > ${home}/api_key)`,
  );
}

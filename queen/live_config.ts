/** The part of the configuration that can change while the queen runs, see {@linkcode RELOADED}. */
import type { Logger } from "../daemon/log.ts";
import type { Config } from "../home/config_schema.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import type { ReloadResponse } from "../protocol/key_schemas.ts";

/** Settings that are taken over, by their paths. Only keepers and hives read `nodes`. */
const RELOADED = ["nodes", "queen.common_prefixes", "queen.keys", "queen.models"];
/** Sections that a queen does not read. */
const OF_OTHERS = ["hive", "hub", "keeper"];

/** Options of {@linkcode LiveConfig}. */
export interface LiveConfigOptions {
  config: Config;
  /** Reads the configuration anew, as at the start; absent: there is nothing to read it from. */
  load?: () => Promise<Config>;
  /** Applies a changed one; must not throw. */
  onChange: (config: Config) => void;
  log: Logger;
}

/** See above. */
export class LiveConfig {
  readonly #options: LiveConfigOptions;
  readonly #started: Config;
  #now: Config;

  /** As it was at the start. */
  constructor(options: LiveConfigOptions) {
    this.#options = options;
    this.#started = this.#now = options.config;
  }

  /** How models are treated. */
  get models(): Config["queen"]["models"] {
    return this.#now.queen.models;
  }

  /**
   * Reads it again. What is faulty changes nothing.
   *
   * @throws {RbeeError} `INVALID_REQUEST` with what is wrong with it.
   */
  async reload(): Promise<ReloadResponse> {
    const { load, onChange, log } = this.#options;
    if (load === undefined) {
      throw new RbeeError("INVALID_REQUEST", "This queen was started without a configuration.");
    }
    let config: Config;
    try {
      config = await load();
    } catch (thrown) {
      const error = toRbeeError(thrown);
      log.error("configuration not reloaded: it is faulty, and the one before goes on", {
        reason: error.message,
      });
      throw error;
    }
    this.#now = config;
    onChange(config);
    const restartNeeded = [...differences(this.#started, config)].filter((path) =>
      !RELOADED.includes(path) && !OF_OTHERS.includes(path.split(".")[0])
    );
    log.info("configuration reloaded", {
      keys: config.queen.keys.length,
      models: Object.keys(config.queen.models).length,
      restart_needed: restartNeeded,
    });
    return { reloaded: [...RELOADED], restart_needed: restartNeeded };
  }
}

/** Paths of settings, one or two names long, that are not the same; their values may be secret, and are not told. */
function* differences(before: Config, after: Config): Generator<string> {
  const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
  for (const section of Object.keys(after) as (keyof Config)[]) {
    const [old, fresh] = [before[section], after[section]];
    if (section === "nodes" || typeof fresh !== "object" || typeof old !== "object") {
      if (!same(old, fresh)) yield section;
      continue;
    }
    for (const name of new Set([...Object.keys(old), ...Object.keys(fresh)])) {
      if (!same(old[name as never], fresh[name as never])) yield `${section}.${name}`;
    }
  }
}

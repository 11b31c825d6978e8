/** Reads `config.yaml` and lays environment and flags over it: flag > environment > file > default. */
import { join } from "@std/path";
import { parse } from "@std/yaml";
import type * as z from "zod";
import { fieldErrors, RbeeError } from "../protocol/errors.ts";
import { type Config, ConfigSchema, ENVIRONMENT_KEYS, NodeConfig } from "./config_schema.ts";
import { nearest } from "./near_miss.ts";
import { type Environment, rbeeHome } from "./paths.ts";

/** Options of {@linkcode loadConfig}. */
export interface LoadConfigOptions {
  /** Default: the process's. */
  env?: Environment;
  /** Values of flags by dotted key (`hive.listen`); undefined ones are ignored. */
  flags?: Record<string, string | undefined>;
}

/** A configuration and where it came from. */
export interface LoadedConfig {
  /** Checked, defaults filled in. */
  config: Config;
  /** `~/.rbee` or what stands for it. */
  home: string;
  /** The file that was or would be read. */
  path: string;
}

const MAX_CONFIG_BYTES = 1024 * 1024;

/**
 * Loads the configuration. A missing file is an empty one.
 *
 * @throws {RbeeError} `INVALID_REQUEST` naming file, full key and what was expected.
 */
export async function loadConfig(options: LoadConfigOptions = {}): Promise<LoadedConfig> {
  const env = options.env ?? Deno.env;
  const home = rbeeHome(env);
  const path = env.get("RBEE_CONFIG") || join(home, "config.yaml");
  const raw = await readYaml(path);
  const origin = new Map<string, string>();
  for (const [name, keys] of Object.entries(ENVIRONMENT_KEYS)) {
    const value = env.get(name);
    if (value) set(raw, { keys, value, origin, from: name });
  }
  for (const [dotted, value] of Object.entries(options.flags ?? {})) {
    if (value !== undefined) set(raw, { keys: dotted.split("."), value, origin, from: "the command line" });
  }
  const result = ConfigSchema.safeParse(raw, { reportInput: true });
  if (result.success) return { config: result.data, home, path };
  throw configError(result.error, { path, origin });
}

async function readYaml(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    if ((await Deno.stat(path)).size > MAX_CONFIG_BYTES) {
      throw new Error(`larger than ${MAX_CONFIG_BYTES} bytes`);
    }
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw new RbeeError("INVALID_REQUEST", `Cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (error) {
    // The first line says what and where. The rest quotes the file, and a key may stand there: no cause either.
    const [why] = messageOf(error).split("\n");
    throw new RbeeError("INVALID_REQUEST", `${path} is no valid YAML: ${why.replace(/:$/, "")}`);
  }
  if (typeof value !== "object" || Array.isArray(value) || value === null) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `${path} must hold keys and values, not a ${Array.isArray(value) ? "list" : typeof value}.`,
    );
  }
  return value as Record<string, unknown>;
}

function set(
  raw: Record<string, unknown>,
  entry: { keys: readonly string[]; value: string; origin: Map<string, string>; from: string },
): void {
  // A key file named here goes before a key that stands in the file.
  if (entry.keys[0] === "api_key_file") delete raw.api_key;
  let at = raw;
  for (const key of entry.keys.slice(0, -1)) {
    // A malformed section in the file is left alone: the schema will name it.
    at[key] ??= {};
    if (typeof at[key] !== "object" || at[key] === null) return;
    at = at[key] as Record<string, unknown>;
  }
  at[entry.keys[entry.keys.length - 1]] = entry.value;
  entry.origin.set(entry.keys.join("."), entry.from);
}

function configError(error: z.ZodError, context: { path: string; origin: Map<string, string> }): RbeeError {
  const errors = fieldErrors(error);
  const lines = errors.map(({ field, constraint, message }) => {
    const where = context.origin.get(field) ?? context.path;
    if (constraint !== "unknown") return `${where}: ${field}: ${message}`;
    const near = nearMiss(field);
    return `${where}: ${field}: is not a known key${near ? `; did you mean ${near}?` : ""}`;
  });
  return new RbeeError("INVALID_REQUEST", lines.join("\n"), { details: { errors } });
}

/** The known key that was probably meant: misspelt within its section, or right but in the wrong section. */
function nearMiss(field: string): string | undefined {
  const [section, name] = splitKey(field);
  const keys = knownKeys(section).map((key) => ({ key, parts: splitKey(key) }));
  const siblings = keys.filter(({ parts }) => parts[0] === section).map(({ parts }) => parts[1]);
  const near = nearest(name, siblings);
  if (near !== undefined) return section + near;
  return keys.find(({ parts }) => parts[1] === name)?.key;
}

/** Every key there is by its full path; `section` (`nodes.gpu.`) adds those of a node. */
function knownKeys(section: string): string[] {
  const shape = ConfigSchema.shape;
  const sections = (["hub", "hive", "keeper", "queen", "log"] as const).flatMap((name) =>
    Object.keys(shape[name].unwrap().shape).map((key) => `${name}.${key}`)
  );
  const node = section.startsWith("nodes.") ? Object.keys(NodeConfig.shape).map((key) => section + key) : [];
  return [...Object.keys(shape), ...sections, ...node];
}

/** `hive.listen` → `hive.` and `listen`. */
function splitKey(key: string): [section: string, name: string] {
  const nameAt = key.lastIndexOf(".") + 1;
  return [key.slice(0, nameAt), key.slice(nameAt)];
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

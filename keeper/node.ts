/** From what `--node` says to a hive's address and key. */
import type { LoadedConfig } from "../home/config.ts";
import type { Config, ListenAddress } from "../home/config_schema.ts";
import { configuredKey, localKeyPath, readKeyFile } from "../home/keys.ts";
import { nearest } from "../home/near_miss.ts";
import { isThisMachine } from "../home/this_machine.ts";
import { RbeeError } from "../protocol/errors.ts";
import { DEFAULT_HIVE_PORT } from "../protocol/limits.ts";
import { printable } from "../protocol/printable.ts";
import { readHiveFile } from "../home/hive_file.ts";
import { MAX_NAMES_SHOWN } from "./limits.ts";

/** The machine that needs no configuration. */
export const LOCALHOST = "localhost";

/** A machine and how to call its hive. */
export interface ResolvedNode {
  /** As the person called it: the registry's key. */
  name: string;
  /** `http://host:port` of its hive. */
  url: string;
  /** Absent when none is configured: then only open routes can be called. */
  apiKey?: string;
  /** Where the key comes from, for a person; never the key. */
  keySource: string;
  /** The setting that names its key file; absent where there is none to be named. */
  keySetting?: string;
  /** Address and key are those of a queen, which passes on what is asked of this machine of its. */
  byQueen?: true;
  /** This machine's own hive, which may be started when it does not run. */
  local: boolean;
}

/**
 * Finds a node: a name under `nodes`, `localhost`, or `host[:port]`. A bare word is a name and never a host, so that
 * a slip is told from an unreachable machine. Undefined is the one that the configuration names.
 *
 * @throws {RbeeError} `NODE_NOT_FOUND` with the names there are; `INVALID_REQUEST` for an unusable key file.
 */
export async function resolveNode(wanted: string | undefined, place: LoadedConfig): Promise<ResolvedNode> {
  const { config, home } = place;
  const name = wanted ?? config.keeper.node;
  const configured = Object.hasOwn(config.nodes, name) ? config.nodes[name] : undefined;
  if (configured !== undefined) {
    const url = new URL(configured.url).origin;
    const keySetting = `nodes.${name}.api_key_file`;
    const known = { name, url, local: false, keySetting };
    if (configured.api_key_file === undefined) return { ...known, ...await keyOf(url, place) };
    const apiKey = await readKeyFile(configured.api_key_file);
    return { ...known, apiKey, keySource: configured.api_key_file };
  }
  if (name === LOCALHOST) {
    const url = (await readHiveFile(home))?.url ?? listenUrl(config);
    return { name, url: new URL(url).origin, local: true, ...await ownKey(place) };
  }
  const url = addressUrl(name);
  if (url !== undefined) return { name, url, local: false, ...await keyOf(url, place) };
  throw notFound(name, place);
}

/** Names that `--node` takes without further ado. */
export function knownNodes(config: Config): string[] {
  return [...new Set([LOCALHOST, ...Object.keys(config.nodes)])];
}

/** The key for an address that has none of its own in the configuration. */
async function keyOf(url: string, place: LoadedConfig): Promise<{ apiKey?: string; keySource: string }> {
  if (isThisMachine(url)) return await ownKey(place);
  return { keySource: "none (this machine's own key is for this machine alone)" };
}

async function ownKey({ config, home }: LoadedConfig): Promise<{ apiKey?: string; keySource: string }> {
  const apiKey = await configuredKey(config, home);
  if (apiKey === undefined) return { keySource: `none (${localKeyPath(home)} does not exist)` };
  if (config.api_key !== undefined) return { apiKey, keySource: "api_key of the configuration" };
  return { apiKey, keySource: config.api_key_file ?? localKeyPath(home) };
}

function listenUrl(config: Config): string {
  const { hostname, port }: ListenAddress = config.hive.listen;
  // A wildcard can be listened on but not called.
  const host = hostname === "0.0.0.0" ? "127.0.0.1" : hostname === "::" ? "::1" : hostname;
  const scheme = config.hive.tls_cert === undefined ? "http" : "https";
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::(\d{1,5}))?$/;

function addressUrl(text: string): string | undefined {
  const match = ADDRESS.exec(text);
  if (match === null) return undefined;
  const [, host, port] = match;
  const bareWord = port === undefined && !/[.[]/.test(host);
  if (bareWord || Number(port ?? 0) > 65535) return undefined;
  const url = `http://${host}:${port ?? DEFAULT_HIVE_PORT}`;
  return URL.canParse(url) ? url : undefined;
}

function notFound(name: string, { config, path }: LoadedConfig): RbeeError {
  const known = knownNodes(config);
  const near = nearest(name, known);
  const shown = known.slice(0, MAX_NAMES_SHOWN).join(", ");
  return new RbeeError(
    "NODE_NOT_FOUND",
    `There is no node "${printable(name.slice(0, 80))}".${
      near === undefined ? "" : ` Did you mean ${near}?`
    }`,
    {
      details: {
        known,
        advice: [
          `Known nodes: ${shown} (in ${path}).`,
          "Add it: rbee-keeper nodes add NAME --ssh USER@HOST, or --url http://HOST:9200. Or give HOST:PORT.",
        ],
      },
    },
  );
}

/** Other hives of the house: what one of them has need not come through the internet again. */
import type { Logger } from "../../daemon/log.ts";
import { keyForAddress, readKeyFile } from "../../home/keys.ts";
import type { Config } from "../../home/config_schema.ts";
import { ModelOffer } from "../../protocol/hive_schemas.ts";
import { HIVE_ROUTES, routePath } from "../../protocol/routes.ts";
import { isCommit, isPlainPath } from "./cache.ts";
import { DEFAULT_REVISION, type HubModel, rangeHeaders } from "./hub.ts";
import { type Fetch, HubHttp } from "./hub_http.ts";
import { MAX_FILE_BYTES, type ModelLimits, PEER_ANSWER_TIMEOUT_MS } from "./limits.ts";
import { chooseModel, type HubRef } from "./model_files.ts";
import { AttemptFailed } from "./retry_plan.ts";
import type { FileSource } from "./transfer.ts";

/** Another hive. */
export interface Peer {
  /** Its name in the configuration. */
  name: string;
  /** Where it is. */
  url: string;
  /** Opens it. */
  key: string;
  /** For messages: where the key stands. */
  keySource: string;
}

/** A model that a peer has. */
export interface PeerModel {
  /** Who has it. */
  peer: Peer;
  /** What it is. */
  model: HubModel;
  /** Where its files come from. */
  sourceOf: (file: { path: string; digest: { hex: string } }) => FileSource;
}

/**
 * The hives under `nodes` whose keys are known. A node without a key file has this hive's own key if it is on this
 * machine, and is not asked otherwise. Read anew for each download.
 */
export async function configuredPeers(
  config: Config,
  options: { home: string; log: Logger },
): Promise<Peer[]> {
  const { home, log } = options;
  const peers: Peer[] = [];
  for (const [name, node] of Object.entries(config.nodes)) {
    try {
      const file = node.api_key_file;
      const url = new URL(node.url).origin;
      const key = file === undefined ? await keyForAddress(url, { config, home }) : await readKeyFile(file);
      if (key !== undefined) {
        peers.push({ name, url, key, keySource: file ?? "own key" });
      } else {
        log.info("node not asked for models: its key is not configured", {
          node: name,
          setting: `nodes.${name}.api_key_file`,
        });
      }
    } catch (error) {
      log.warn("node not asked for models: its key cannot be read", { node: name, error });
    }
  }
  return peers;
}

/** Options of {@linkcode askPeers}. */
export interface AskOptions {
  /** As the global one. */
  fetch: Fetch;
  /** For the transfer. */
  limits: ModelLimits;
  /** Ends the asking. */
  signal: AbortSignal;
  /** Told about what a peer answers amiss. */
  log: Logger;
}

/** Asks all peers at once who has `ref`; the first that does, or undefined. Takes two seconds at most. */
export async function askPeers(
  ref: HubRef,
  peers: readonly Peer[],
  options: AskOptions,
): Promise<PeerModel | undefined> {
  const decided = new AbortController();
  const limit = AbortSignal.timeout(PEER_ANSWER_TIMEOUT_MS);
  const signal = AbortSignal.any([options.signal, limit, decided.signal]);
  const answers = peers.map(async (peer) => {
    const found = await ask(peer, ref, { ...options, signal });
    if (found === undefined) throw new Error("does not have it");
    return found;
  });
  const first = await Promise.any(answers).catch(() => undefined);
  // Nobody waits for the others any more.
  decided.abort();
  options.signal.throwIfAborted();
  return first;
}

async function ask(peer: Peer, ref: HubRef, options: AskOptions): Promise<PeerModel | undefined> {
  const { fetch, limits, signal, log } = options;
  const token = { value: peer.key, source: peer.keySource };
  const http = new HubHttp({ endpoint: peer.url, token, fetch, limits });
  const url = http.url(`${HIVE_ROUTES.offer.path}?model_ref=${encodeURIComponent(ref.text)}`);
  const { json } = await http.getJson(url, { signal, what: ref.text }).catch((error) => {
    if (error instanceof AttemptFailed && error.failure.status === 401) {
      log.warn("node not asked for models: it refuses the key", {
        node: peer.name,
        key_source: peer.keySource,
      });
    }
    throw error;
  });
  const model = offeredModel(json, ref);
  if (model === undefined) {
    log.warn("a node offers a model in a form that is not understood", {
      node: peer.name,
      model_ref: ref.text,
    });
    return undefined;
  }
  return {
    peer,
    model,
    sourceOf: ({ path, digest }) => ({
      repo: ref.repo,
      open: (range, { signal, validator }) =>
        http.get(http.url(routePath(HIVE_ROUTES.blob, { digest: digest.hex })), {
          signal,
          what: `${path} of ${ref.repo}`,
          headersFor: (origin) => rangeHeaders(range, { origin, validator }),
        }),
    }),
  };
}

/**
 * What a peer says is believed no more than what a hub says: it must be about what was asked for, and the paths be
 * harmless. The bytes are compared with the digests when they come.
 */
function offeredModel(json: unknown, ref: HubRef): HubModel | undefined {
  const { data: offer } = ModelOffer.safeParse(json);
  const revision = ref.revision ?? DEFAULT_REVISION;
  if (offer === undefined || offer.repo !== ref.repo || offer.revision !== revision) return undefined;
  if (isCommit(revision) && offer.commit !== revision) return undefined;
  if (!offer.files.every(({ path, size }) => isPlainPath(path) && size <= MAX_FILE_BYTES)) return undefined;
  try {
    return { ...offer, files: chooseModel(offer.files, ref).files };
  } catch {
    return undefined;
  }
}

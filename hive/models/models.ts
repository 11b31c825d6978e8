/** The models of one machine: what is there, how it gets there, and how it goes away again. */
import { delay } from "@std/async";
import { join } from "@std/path";
import { RbeeError } from "../../protocol/errors.ts";
import type {
  CatalogModel,
  DownloadEvent,
  DownloadResponse,
  ModelOffer,
  PruneRequest,
  PruneResponse,
} from "../../protocol/hive_schemas.ts";
import { type ModelRef, parseModelRef } from "../../protocol/model_ref.ts";
import { findAlternatives } from "./alternatives.ts";
import { cacheRoot, repoFolderName } from "./cache.ts";
import { findInCache } from "./cache_lookup.ts";
import { pathInCache, removeFromCache } from "./cache_removal.ts";
import { Catalog } from "./catalog.ts";
import { diskSpace } from "./disk.ts";
import type { LocalModel } from "./download.ts";
import type { DownloadJob } from "./download_job.ts";
import { Downloads } from "./downloads.ts";
import { fileBehind, fileSize, modelSize, UnreachableFile } from "./file_look.ts";
import { readGgufFacts } from "./gguf.ts";
import type { HubModel } from "./hub.ts";
import { MODEL_LIMITS, type ModelLimits } from "./limits.ts";
import type { HubRef, Quantisation } from "./model_files.ts";
import { blobOf, offerOf } from "./offer.ts";
import { configuredPeers } from "./peers.ts";
import type { FoundModel, InUse, ModelsOptions } from "./models_options.ts";
import { pruneModels } from "./prune.ts";
import { splitPaths } from "./split_name.ts";
import { REAL_TIMING } from "./timing.ts";
import { UnfinishedDownloads } from "./unfinished_downloads.ts";
import { type Verified, verifyModel, type VerifyOptions } from "./verify.ts";

/** A file or one that ships with rbee. */
type LocalRef = Exclude<ModelRef, HubRef>;

const BUILTIN_FILES = { stories: "rbee-stories-1.4M-Q8_0.gguf" } as const;

/**
 * Owner of the catalog and of all downloads. References are texts as in SPEC §2; one that is not valid throws
 * `INVALID_REQUEST` everywhere.
 */
export class Models {
  /** The folder of the model cache; it may not exist yet. */
  readonly modelsDir: string;
  readonly #options: ModelsOptions;
  readonly #limits: ModelLimits;
  readonly #catalog: Catalog;
  readonly #downloads: Downloads;
  /** Over HTTP/2 all parts of a file would come through one connection, at the speed of one. */
  readonly #httpClient = Deno.createHttpClient({ http2: false });
  /** Names of the repository folders that downloads are filling. */
  readonly #filling = new Map<DownloadJob, string>();
  readonly #unfinished: UnfinishedDownloads;
  readonly #leaving = new AbortController();
  #closed = false;

  /** Opens the catalog; blocks for that. Call {@linkcode Models.start} once before serving. */
  constructor(options: ModelsOptions) {
    const { config, env, log, home } = options;
    this.#options = options;
    this.#limits = { ...MODEL_LIMITS, ...options.limits };
    this.modelsDir = cacheRoot(config, env);
    this.#catalog = new Catalog(home, log);
    const timing = options.timing ?? REAL_TIMING;
    this.#unfinished = new UnfinishedDownloads({ catalog: this.#catalog, timing, log });
    this.#downloads = new Downloads({
      ...{ config, env, log, root: this.modelsDir, limits: this.#limits },
      fetch: options.fetch ?? ((url, init) => fetch(url, { ...init, client: this.#httpClient })),
      timing,
      freeBytes: options.freeBytes ?? (async (folder) => (await diskSpace(folder)).freeBytes),
      peers: () => configuredPeers(config, { home, log }),
      offline: async (ref) => (await this.#findCached(ref, { ifCertain: false }))?.local_path,
      onStart: (job, ref) => this.#follow(job, ref),
      onComplete: (ref, model, local) => this.#record(ref, { model, local }),
    });
  }

  /**
   * The model if it can be used now. `undefined`: not here, a download may bring it.
   *
   * @throws {RbeeError} for `file:` and `builtin:`, which no download can bring: `MODEL_NOT_FOUND`, `INVALID_MODEL`.
   */
  async find(reference: string): Promise<CatalogModel | undefined> {
    const ref = parseModelRef(reference);
    if (ref.provider !== "hf") return await this.#findLocal(ref);
    const row = this.#catalog.get(ref.text);
    return (row && await this.#repaired(row)) ?? await this.#findCached(ref, { ifCertain: true });
  }

  /**
   * Says where the model is, or starts its download, or joins the one that runs. Waits for the hub's facts, at most
   * `resolveGraceMs`, so that what cannot work is refused at once.
   *
   * @throws {RbeeError} what {@linkcode Models.find} throws and what a download ends with, if it ends that soon.
   */
  async download(reference: string): Promise<DownloadResponse> {
    const ref = parseModelRef(reference);
    const found = await this.find(ref.text);
    if (found !== undefined) return { download_id: "cached", local_path: found.local_path };
    if (this.#closed) throw new RbeeError("SHUTTING_DOWN", "The hive is shutting down. Try again later.");
    return await this.#firstAnswer(this.#downloads.start(ref as HubRef));
  }

  /**
   * Brings a model here and waits until it is.
   *
   * @throws {RbeeError} what {@linkcode Models.download} throws and what the download ends with.
   */
  async obtain(reference: string): Promise<void> {
    const answer = await this.download(reference);
    if ("local_path" in answer) return;
    const outcome = await this.#downloads.get(answer.download_id).ended;
    if ("error" in outcome) throw outcome.error;
  }

  /**
   * As {@linkcode Models.find}.
   *
   * @throws {RbeeError} `MODEL_NOT_FOUND` also for a model that a download could bring.
   */
  async require(reference: string): Promise<CatalogModel> {
    const model = await this.find(reference);
    if (model !== undefined) return model;
    throw new RbeeError("MODEL_NOT_FOUND", `${reference} is not in the catalog.`);
  }

  /**
   * The same model in other quantisations, as the hub has them; where it can't tell within `timeoutMs`, as they are
   * here. Never throws.
   */
  async alternatives(reference: string, options: { timeoutMs: number }): Promise<Quantisation[]> {
    const signal = AbortSignal.any([this.#leaving.signal, AbortSignal.timeout(options.timeoutMs)]);
    return await findAlternatives(parseModelRef(reference), {
      atHub: (ref) => this.#downloads.quantisations(ref, signal),
      here: () => this.#catalog.all(),
      log: this.#options.log,
    });
  }

  /** Compares a model's files with what they should be. Throws as {@linkcode verifyModel}. */
  async verify(model: CatalogModel, options: VerifyOptions): Promise<Verified> {
    const signal = AbortSignal.any([options.signal, this.#leaving.signal]);
    return await verifyModel(model, { ...options, signal, catalog: this.#catalog });
  }

  /** Notes that the model at this path is used now. One that cannot be noted costs the note, not the use. */
  noteUse(localPath: string): void {
    try {
      if (!this.#closed) this.#catalog.used(localPath, nowUnix());
    } catch (error) {
      this.#options.log.error("use of a model not noted", { local_path: localPath, error });
    }
  }

  /**
   * Follows a download: `listener` gets its present state at once and everything after, up to `complete` or `error`.
   *
   * @returns what ends the following.
   * @throws {RbeeError} `DOWNLOAD_NOT_FOUND`.
   */
  progress(id: string, listener: (event: DownloadEvent) => void): () => void {
    return this.#downloads.get(id).follow(listener);
  }

  /**
   * Stops a download for its last follower; what was fetched is kept for the next try. One that has ended stays as it
   * is. Resolves to false when more than one follow it: it goes on for the others.
   *
   * @throws {RbeeError} `DOWNLOAD_NOT_FOUND`.
   */
  async cancel(id: string): Promise<boolean> {
    const job = this.#downloads.get(id);
    if (job.running && job.followers > 1) return false;
    const again = `Ask for ${job.reference} again to resume it.`;
    await job.cancel(new RbeeError("REQUEST_CANCELED", `The download was canceled. ${again}`));
    return true;
  }

  /** The catalog, reconciled with the disk. Rows whose files can't be checked right now are kept unchanged. */
  async list(): Promise<FoundModel[]> {
    return await Promise.all((await this.#checked()).map(async (model) => ({
      ...model,
      files: model.unreachable === undefined ? await fileBehind(model.local_path) : model.local_path,
    })));
  }

  /** The same without where the files really are, and without those that can't be checked. */
  async present(): Promise<CatalogModel[]> {
    return (await this.#checked()).filter(({ unreachable }) => unreachable === undefined);
  }

  /** Looks after what an earlier hive has left. */
  async start(): Promise<void> {
    await this.#downloads.settleLeftOvers();
    await this.#checked();
  }

  /** Goes on with the downloads that an earlier hive has not brought to their end. Does not wait for them. */
  resumeDownloads(): void {
    this.#unfinished.resume((reference) => this.obtain(reference), this.#leaving.signal);
  }

  /**
   * Forgets a model and, if it came from a hub, removes its files. Other references to the same files go with it.
   *
   * @throws {RbeeError} `MODEL_NOT_FOUND`; `MODEL_IN_USE` when `inUse` says so of the model or of another reference
   * to its files, or while it is being downloaded.
   */
  async remove(reference: string, options: { inUse: InUse }): Promise<void> {
    const ref = parseModelRef(reference);
    const row = this.#catalog.get(ref.text);
    if (row === undefined) throw new RbeeError("MODEL_NOT_FOUND", `${ref.text} is not in the catalog.`);
    const files = await fileBehind(row.local_path);
    const affected = row.provider === "hf"
      ? this.#catalog.all().filter((other) => other.local_path === row.local_path)
      : [row];
    for (const model of affected) {
      const why = options.inUse({ ...model, files }) ? "a worker has it loaded; stop that first" : undefined;
      const busy = this.#downloads.running(model.reference) && "it is being downloaded; cancel that first";
      if (why ?? busy) {
        throw new RbeeError("MODEL_IN_USE", `Cannot remove ${model.reference}: ${why ?? busy}.`);
      }
    }
    // Files first: a catalog on a full disk can't be written before there is room again.
    if (row.provider === "hf") await removeFromCache(splitPaths(row.local_path));
    for (const model of affected) this.#forget(model.reference);
    this.#options.log.info("model removed", { model_ref: row.reference, local_path: row.local_path });
  }

  /** Removes hub models until the rest fit, and what downloads left unfinished. */
  async prune(
    request: PruneRequest,
    options: { inUse: InUse },
  ): Promise<PruneResponse> {
    return await pruneModels(request, {
      models: await this.list(),
      root: this.modelsDir,
      inUse: (model) => options.inUse(model) || this.#downloads.running(model.reference) !== undefined,
      remove: (reference) => this.remove(reference, options),
      busy: (repoFolder) => this.#filling.values().some((name) => name === repoFolder),
    });
  }

  /**
   * What another hive needs to know to take a model from here; a download of our own is not started for that.
   *
   * @throws {RbeeError} `MODEL_NOT_FOUND` when it is not here, or not known well enough to vouch for it.
   */
  async offer(reference: string): Promise<ModelOffer> {
    const ref = parseModelRef(reference);
    const row = ref.provider === "hf" ? await this.find(ref.text) : undefined;
    if (ref.provider === "hf" && row !== undefined) return await offerOf(row, ref);
    throw new RbeeError("MODEL_NOT_FOUND", `${ref.text} is not in the catalog.`);
  }

  /**
   * The file of the catalog that has this digest.
   *
   * @throws {RbeeError} `MODEL_NOT_FOUND`.
   */
  async blob(digestHex: string): Promise<string> {
    return await blobOf(this.#catalog.all(), digestHex);
  }

  /** Stops all downloads, keeping what was fetched, and closes the catalog. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#unfinished.close();
    this.#leaving.abort(new RbeeError("SHUTTING_DOWN", "The hive is shutting down. Try again later."));
    await this.#downloads.close();
    this.#httpClient.close();
    this.#catalog.close();
  }

  async #firstAnswer(job: DownloadJob): Promise<DownloadResponse> {
    const waiting = new AbortController();
    const grace = delay(this.#limits.resolveGraceMs, { signal: waiting.signal }).catch(() => {});
    const outcome = await Promise.race([job.ended, job.worthFollowing, grace]);
    waiting.abort();
    if (!outcome) return { download_id: job.id };
    if ("error" in outcome) throw outcome.error;
    return { download_id: "cached", local_path: outcome.localPath };
  }

  #follow(job: DownloadJob, ref: HubRef): void {
    this.#filling.set(job, repoFolderName(ref.repo));
    void job.ended.then(() => this.#filling.delete(job));
    job.subscribe((event) => this.#options.onDownload?.(job, event));
    this.#unfinished.follow(job);
  }

  #record(ref: HubRef, got: { model: HubModel; local: LocalModel }): void {
    const { model, local } = got;
    const { digest } = model.files[0];
    this.#catalog.put({
      provider: "hf",
      reference: ref.text,
      revision: model.commit,
      local_path: local.path,
      size_bytes: local.sizeBytes,
      sha256: model.files.length === 1 && digest.algorithm === "sha256" ? digest.hex : null,
      downloaded_at_unix: nowUnix(),
      companions: model.companions,
    });
  }

  /** A model that another program put into the cache, or an older hive; entered into the catalog. */
  async #findCached(ref: HubRef, options: { ifCertain: boolean }): Promise<CatalogModel | undefined> {
    const found = await findInCache(this.modelsDir, ref);
    if (found === undefined || (options.ifCertain && !found.certain)) return undefined;
    const [{ localPath, digest }, ...more] = found.files;
    try {
      await readGgufFacts(localPath);
    } catch (error) {
      // Cut short, for example: a download will mend it.
      if (error instanceof RbeeError) return undefined;
      throw error;
    }
    this.#options.log.info("model found in the cache", { model_ref: ref.text, local_path: localPath });
    return this.#catalog.put({
      ...{ provider: "hf", reference: ref.text, revision: found.commit, local_path: localPath },
      size_bytes: found.files.reduce((sum, file) => sum + file.size, 0),
      sha256: more.length === 0 && digest?.algorithm === "sha256" ? digest.hex : null,
      downloaded_at_unix: nowUnix(),
      companions: [],
    });
  }

  async #checked(): Promise<Omit<FoundModel, "files">[]> {
    const found = await Promise.all(
      this.#catalog.all().map(async (row) => {
        try {
          return await this.#repaired(row) ?? [];
        } catch (error) {
          if (!(error instanceof UnreachableFile)) throw error;
          return { ...row, unreachable: error.message };
        }
      }),
    );
    return found.flat();
  }

  /**
   * Returns the row if its files are unchanged, the updated row if the cache was moved, undefined otherwise.
   *
   * @throws {UnreachableFile} when that can't be told.
   */
  async #repaired(row: CatalogModel): Promise<CatalogModel | undefined> {
    if (await modelSize(row.local_path) === row.size_bytes) return row;
    const { log } = this.#options;
    const moved = pathInCache(row.local_path, this.modelsDir);
    if (moved !== undefined && await modelSize(moved) === row.size_bytes) {
      log.info("model found in another folder", { model_ref: row.reference, local_path: moved });
      return this.#catalog.put({ ...row, local_path: moved });
    }
    log.warn("model dropped from the catalog: its file is gone or has changed", {
      ...{ model_ref: row.reference, local_path: row.local_path, size_bytes: row.size_bytes },
    });
    this.#forget(row.reference);
    return undefined;
  }

  /** A row that can't be removed (the disk is full) is left: without its file it counts for nothing. */
  #forget(reference: string): void {
    try {
      this.#catalog.delete(reference);
    } catch (error) {
      this.#options.log.warn("model left in the catalog without its file", { model_ref: reference, error });
    }
  }

  /** A file that is new, or not as it was, is read; one that is known is only looked at. */
  async #findLocal(ref: LocalRef): Promise<CatalogModel> {
    const path = splitPaths(ref.provider === "file" ? ref.path : this.#builtinPath(ref.name))[0];
    const row = this.#catalog.get(ref.text);
    if (row !== undefined && row.local_path === path && await modelSize(path) === row.size_bytes) return row;
    if (await fileSize(path) === undefined) {
      const advice = ref.provider === "file" ? "Check the path" : "The installation is incomplete";
      throw new RbeeError("MODEL_NOT_FOUND", `There is no file ${path} for ${ref.text}. ${advice}.`);
    }
    const { fileBytes } = await readGgufFacts(path);
    return this.#catalog.put({
      ...{ provider: ref.provider, reference: ref.text, revision: null, sha256: null },
      ...{ local_path: path, size_bytes: fileBytes, downloaded_at_unix: nowUnix(), companions: [] },
    });
  }

  #builtinPath(name: keyof typeof BUILTIN_FILES): string {
    return join(this.#options.builtinDir, BUILTIN_FILES[name]);
  }
}

function nowUnix(): number {
  return Math.floor(Date.now() / 1000);
}

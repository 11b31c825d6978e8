/** All downloads of a hive: each runs once however often it is asked for, and is remembered for a while after. */
import { RbeeError } from "../../protocol/errors.ts";
import type { Logger } from "../../daemon/log.ts";
import type { Config } from "../../home/config_schema.ts";
import type { Environment } from "../../home/paths.ts";
import { Bandwidth } from "./bandwidth.ts";
import { downloadModel, type DownloadOptions, type LocalModel } from "./download.ts";
import { DownloadJob, type DownloadOutcome, isTerminal } from "./download_job.ts";
import { type HubFile, hubFile, type HubModel, listAtHub, resolveAtHub } from "./hub.ts";
import { type Fetch, HubHttp } from "./hub_http.ts";
import { readHubToken } from "./hub_token.ts";
import { MAX_PEER_ATTEMPTS, type ModelLimits } from "./limits.ts";
import { type HubRef, type Quantisation, quantisationsOf } from "./model_files.ts";
import { askPeers, type Peer } from "./peers.ts";
import { retryingEvent, type RetryNotice, type RetryOptions } from "./retries.ts";
import type { Timing } from "./timing.ts";
import { settleLeftOver, unsettledFiles } from "./unsettled.ts";

/** What downloads need. */
export interface DownloadsOptions {
  /** Hub and bandwidth. */
  config: Config;
  /** Where a token may stand. */
  env: Environment;
  /** Folder of the cache. */
  root: string;
  /** Told about beginnings and ends. */
  log: Logger;
  /** As the global one. */
  fetch: Fetch;
  /** What they are held to. */
  limits: ModelLimits;
  /** Clock and chance. */
  timing: Timing;
  /** Free bytes on the disk of a folder. */
  freeBytes: (folder: string) => Promise<number>;
  /** Other hives, which are asked before the hub. */
  peers: () => Promise<Peer[]>;
  /** Where the model lies that is used while the hub cannot be reached; undefined when there is none. */
  offline: (ref: HubRef) => Promise<string | undefined>;
  /** Told about a download that begins. */
  onStart: (job: DownloadJob, ref: HubRef) => void;
  /** Told about a complete model before its followers are. */
  onComplete: (ref: HubRef, model: HubModel, local: LocalModel) => void;
}

/** Owner of every {@linkcode DownloadJob}. */
export class Downloads {
  readonly #options: DownloadsOptions;
  readonly #bandwidth: Bandwidth;
  /** By id, oldest first. */
  readonly #jobs = new Map<string, DownloadJob>();
  /** Files that are on their way to the disk. */
  readonly #settling = new Set<Promise<void>>();

  /** Nothing runs yet. */
  constructor(options: DownloadsOptions) {
    this.#options = options;
    this.#bandwidth = new Bandwidth(options.config.hub.max_bandwidth, options.timing);
  }

  /** The running download of a reference in normal form. */
  running(reference: string): DownloadJob | undefined {
    return this.#jobs.values().find((job) => job.running && job.reference === reference);
  }

  /**
   * A download by its id, ended ones included as long as they are remembered.
   *
   * @throws {RbeeError} `DOWNLOAD_NOT_FOUND`.
   */
  get(id: string): DownloadJob {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    const shown = JSON.stringify(id.slice(0, 64));
    throw new RbeeError("DOWNLOAD_NOT_FOUND", `There is no download ${shown}. Ask for the model again.`);
  }

  /** The running download of this reference, else a new one. */
  start(ref: HubRef): DownloadJob {
    const running = this.running(ref.text);
    if (running !== undefined) return running;
    const job = new DownloadJob(ref.text);
    this.#jobs.set(job.id, job);
    this.#options.onStart(job, ref);
    void this.#run(job, ref);
    return job;
  }

  /**
   * The quantisations that the hub has of this repository. Tried once.
   *
   * @throws {Error} what keeps the hub from telling, the signal's reason among it.
   */
  async quantisations(ref: HubRef, signal: AbortSignal): Promise<Quantisation[]> {
    const { timing, limits } = this.#options;
    const once = { ...{ timing, signal }, limits: { ...limits, maxAttempts: 1 } };
    const { files } = await listAtHub(await this.#hub(), ref, once);
    return quantisationsOf(files, ref);
  }

  /**
   * What an earlier hive left on its way to the disk is brought there from now on, or becomes unfinished again: the
   * latter has been done when this resolves.
   */
  async settleLeftOvers(): Promise<void> {
    for (const paths of await unsettledFiles(this.#options.root)) {
      this.#settle((await settleLeftOver(paths)).settled, paths.blob);
    }
  }

  /** Cancels everything; resolves when all have stopped, and what came is on the disk. */
  async close(): Promise<void> {
    const reason = new RbeeError("SHUTTING_DOWN", "The hive is shutting down; the download can be resumed.");
    await Promise.all(this.#jobs.values().filter((job) => job.running).map((job) => job.cancel(reason)));
    await Promise.all(this.#settling);
  }

  #settle(settled: Promise<unknown>, path: string): void {
    const done = settled.then((error) => {
      this.#settling.delete(done);
      if (error !== undefined) {
        this.#options.log.error("a file cannot be written to the disk; it is unfinished again", {
          path,
          error,
        });
      }
    });
    this.#settling.add(done);
  }

  /** Never rejects. */
  async #run(job: DownloadJob, ref: HubRef): Promise<void> {
    const log = this.#options.log.child({ download_id: job.id, model_ref: ref.text });
    try {
      const localPath = await this.#download(job, ref);
      log.info("model ready", { local_path: localPath });
      job.end({ localPath });
    } catch (thrown) {
      log.warn("download ended without a model", { error: thrown });
      job.end({ thrown });
    }
    this.#forgetOldest();
  }

  async #download(job: DownloadJob, ref: HubRef): Promise<string> {
    const { limits, timing } = this.#options;
    const retry = {
      ...{ limits, timing, signal: job.signal },
      onRetry: (notice: RetryNotice) => job.emit(retryingEvent(notice)),
    };
    const fromPeer = await this.#fromPeer(job, ref, retry);
    if (fromPeer !== undefined && "localPath" in fromPeer) return fromPeer.localPath;
    return await this.#fromHub(job, ref, retry).catch((error) => {
      // Where no hub can say how large it is, the other hive's word counts.
      const noRoom = fromPeer?.error.code === "INSUFFICIENT_DISK" && hubIsAway(error);
      throw noRoom ? fromPeer.error : error;
    });
  }

  /** Undefined when no other hive has it. What one brought before it failed is not fetched again. */
  async #fromPeer(job: DownloadJob, ref: HubRef, retry: RetryOptions): Promise<DownloadOutcome | undefined> {
    const { fetch, limits, log } = this.#options;
    const peers = await this.#options.peers();
    if (peers.length === 0) return undefined;
    const { signal } = job;
    const found = await askPeers(ref, peers, { fetch, limits, signal, log });
    if (found === undefined) return undefined;
    const about = { model_ref: ref.text, node: found.peer.name };
    log.info("model comes from another node", about);
    const patience = { ...retry, limits: { ...limits, maxAttempts: MAX_PEER_ATTEMPTS } };
    try {
      const { model, sourceOf } = found;
      return { localPath: await this.#fetch({ job, ref, model, sourceOf }, patience) };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RbeeError)) throw error;
      log.warn("the other node failed; the hub is asked", { ...about, error });
      return { error };
    }
  }

  async #fromHub(job: DownloadJob, ref: HubRef, retry: RetryOptions): Promise<string> {
    const hub = await this.#hub();
    let model: HubModel;
    try {
      model = await resolveAtHub(hub, ref, retry);
    } catch (error) {
      const localPath = hubIsAway(error) ? await this.#options.offline(ref) : undefined;
      if (localPath === undefined) throw error;
      return localPath;
    }
    const sourceOf = (file: HubFile) => hubFile(hub, { model, path: file.path });
    return await this.#fetch({ job, ref, model, sourceOf }, retry);
  }

  async #hub(): Promise<HubHttp> {
    const { config, env, fetch, limits } = this.#options;
    const token = await readHubToken(config, env);
    return new HubHttp({ endpoint: config.hub.endpoint, token, fetch, limits });
  }

  async #fetch(
    what: { job: DownloadJob; ref: HubRef; model: HubModel; sourceOf: DownloadOptions["sourceOf"] },
    retry: RetryOptions,
  ): Promise<string> {
    const { job, ref, model, sourceOf } = what;
    await this.#awaitTwin(job, model);
    const local = await downloadModel(model, {
      ...{ ...retry, sourceOf, emit: job.emit.bind(job), bandwidth: this.#bandwidth },
      ...{ root: this.#options.root, freeBytes: this.#options.freeBytes },
      onNamed: (settled, path) => this.#settle(settled, path),
    });
    this.#options.onComplete(ref, model, local);
    return local.path;
  }

  /**
   * Two references can mean the same files. The later download shows what the earlier one does and goes on when
   * that has ended; if all went well it finds everything there.
   */
  async #awaitTwin(job: DownloadJob, model: HubModel): Promise<void> {
    // Of an earlier source that failed: a download is not its own twin, and nobody has to wait for that any more.
    job.transferKey = undefined;
    const key = [model.repo, ...model.files.map((file) => file.digest.hex)].join(" ");
    const runningTwin = () => this.#jobs.values().find((other) => other.running && other.transferKey === key);
    for (let twin = runningTwin(); twin !== undefined; twin = runningTwin()) {
      const unsubscribe = twin.subscribe((event) => {
        if (!isTerminal(event)) job.emit(event);
      });
      await Promise.race([twin.ended, aborted(job.signal)]);
      unsubscribe();
      job.signal.throwIfAborted();
    }
    job.transferKey = key;
  }

  #forgetOldest(): void {
    const ended = [...this.#jobs.values()].filter((job) => !job.running);
    const excess = ended.length - this.#options.limits.maxEndedDownloads;
    for (const job of ended.slice(0, Math.max(0, excess))) this.#jobs.delete(job.id);
  }
}

/** It did not answer, or not to any purpose; a refusal is an answer. */
function hubIsAway(error: unknown): boolean {
  if (!(error instanceof RbeeError)) return false;
  const { status } = error.details;
  if (error.code === "DOWNLOAD_TIMEOUT") return true;
  return error.code === "DOWNLOAD_FAILED" && (typeof status !== "number" || status >= 500);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

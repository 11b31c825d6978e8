/** All downloads of a hive: each runs once however often it is asked for, and is remembered for a while after. */
import { RbeeError } from "../../protocol/errors.ts";
import type { Logger } from "../../daemon/log.ts";
import type { Config } from "../../home/config_schema.ts";
import type { Environment } from "../../home/paths.ts";
import { Bandwidth } from "./bandwidth.ts";
import { downloadModel, type LocalModel } from "./download.ts";
import { DownloadJob, isTerminal } from "./download_job.ts";
import { type HubModel, resolveAtHub } from "./hub.ts";
import { type Fetch, HubHttp } from "./hub_http.ts";
import { readHubToken } from "./hub_token.ts";
import type { ModelLimits } from "./limits.ts";
import type { HubRef } from "./model_files.ts";
import { retryingEvent } from "./retries.ts";
import type { Timing } from "./timing.ts";

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
  /** Told about a complete model before its followers are. */
  onComplete: (ref: HubRef, model: HubModel, local: LocalModel) => void;
}

/** Owner of every {@linkcode DownloadJob}. */
export class Downloads {
  readonly #options: DownloadsOptions;
  readonly #bandwidth: Bandwidth;
  /** By id, oldest first. */
  readonly #jobs = new Map<string, DownloadJob>();

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
    void this.#run(job, ref);
    return job;
  }

  /** Cancels everything; resolves when all have stopped. */
  async close(): Promise<void> {
    const reason = new RbeeError("SHUTTING_DOWN", "The hive is shutting down; the download can be resumed.");
    await Promise.all(this.#jobs.values().filter((job) => job.running).map((job) => job.cancel(reason)));
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
    const { config, env, fetch, limits, timing } = this.#options;
    const token = await readHubToken(config, env);
    const hub = new HubHttp({ endpoint: config.hub.endpoint, token, fetch, limits });
    const emit = job.emit.bind(job);
    const retry = {
      ...{ limits, timing, signal: job.signal },
      onRetry: (notice: Parameters<typeof retryingEvent>[0]) => emit(retryingEvent(notice)),
    };
    const model = await resolveAtHub(hub, ref, retry);
    await this.#awaitTwin(job, model);
    const local = await downloadModel(model, {
      ...{ ...retry, hub, emit, bandwidth: this.#bandwidth },
      ...{ root: this.#options.root, freeBytes: this.#options.freeBytes },
    });
    this.#options.onComplete(ref, model, local);
    return local.path;
  }

  /**
   * Two references can mean the same files. The later download shows what the earlier one does and goes on when
   * that has ended; if all went well it finds everything there.
   */
  async #awaitTwin(job: DownloadJob, model: HubModel): Promise<void> {
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

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

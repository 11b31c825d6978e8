/** What this hive tells its queen: how things are, at every heartbeat and as soon as a worker has changed. */
import { type Clock, settlesWithin } from "../daemon/clock.ts";
import type { Logger } from "../daemon/log.ts";
import { toRbeeError } from "../protocol/errors.ts";
import type { CatalogModel, Device } from "../protocol/hive_schemas.ts";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import type { QueenClient } from "../protocol/queen_client.ts";
import type { HeartbeatInput, ReportedWorker } from "../protocol/queen_schemas.ts";
import { VERSION } from "../protocol/version.ts";
import type { MachineMemory } from "./hardware.ts";
import { HEARTBEAT_TIMEOUT_MS, LEAVING_TIMEOUT_MS, REPORT_GATHER_MS } from "./limits.ts";

/** Options of {@linkcode QueenReports}. */
export interface QueenReportsOptions {
  queen: Pick<QueenClient, "heartbeat">;
  /** What this machine is called. */
  name: string;
  /** Where the queen reaches this hive, and with which key; asked at each report. */
  place: () => { url: string; apiKey: string };
  workers: () => Promise<ReportedWorker[]>;
  models: () => Promise<Pick<CatalogModel, "reference" | "size_bytes">[]>;
  devices: () => Promise<Device[]>;
  memory: () => MachineMemory & { reserve_mb: number };
  cpu: () => { cores: number; load_average: [number, number, number] };
  clock: Clock;
  log: Logger;
}

/** See above. */
export class QueenReports {
  readonly #options: QueenReportsOptions;
  readonly #instance = crypto.randomUUID();
  /** What the queen has taken last, as JSON: it need not be told again. */
  #told = { devices: "", models: "", blocks: new Map<string, string>() };
  #changed: PromiseWithResolvers<void> = Promise.withResolvers();
  #silent = false;

  /** Nothing is told before {@linkcode run}. */
  constructor(options: QueenReportsOptions) {
    this.#options = options;
  }

  /** Something has changed: the next report comes at once. */
  soon(): void {
    this.#changed.resolve();
  }

  /** Reports until the signal ends it. Never throws. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      try {
        if (!await this.#report(signal)) {
          this.#forgetTold();
          await this.#report(signal);
        }
        if (this.#silent) log.info("queen takes reports again");
        this.#silent = false;
      } catch (thrown) {
        if (signal.aborted) break;
        const error = toRbeeError(thrown);
        this.#forgetTold();
        if (!this.#silent) {
          log.warn("queen takes no reports", { code: error.code, reason: error.message, error: error.cause });
        }
        this.#silent = true;
      }
      const waited = { clock, ms: HEARTBEAT_INTERVAL_MS, signal };
      if (!await settlesWithin(this.#changed.promise, waited)) continue;
      // Changes come in groups.
      await settlesWithin(new Promise(() => {}), { clock, ms: REPORT_GATHER_MS, signal });
      this.#changed = Promise.withResolvers();
    }
  }

  /** Says that nothing more will come. Waits a moment for the queen to hear it. */
  async leave(): Promise<void> {
    const report: HeartbeatInput = { ...this.#base(), workers: [], leaving: true };
    await this.#options.queen.heartbeat(report, { timeoutMs: LEAVING_TIMEOUT_MS }).catch(() => {});
  }

  /** Whether it has all there is to know now. */
  async #report(signal: AbortSignal): Promise<boolean> {
    const { queen } = this.#options;
    const [workers, devices, listed] = await Promise.all([
      this.#options.workers(),
      this.#options.devices(),
      this.#options.models(),
    ]);
    const models = listed.map(({ reference, size_bytes }) => ({ model_ref: reference, size_bytes }));
    const told = {
      devices: JSON.stringify(devices),
      models: JSON.stringify(models),
      blocks: new Map(workers.map(({ worker_id, blocks = "" }) => [worker_id, blocks])),
    };
    const report: HeartbeatInput = {
      ...this.#base(),
      workers: workers.map((worker) =>
        worker.blocks === this.#told.blocks.get(worker.worker_id) ? { ...worker, blocks: undefined } : worker
      ),
      devices: told.devices === this.#told.devices ? undefined : devices,
      models: told.models === this.#told.models ? undefined : models,
    };
    const { complete } = await queen.heartbeat(report, { signal, timeoutMs: HEARTBEAT_TIMEOUT_MS });
    if (complete) this.#told = told;
    return complete;
  }

  #base() {
    const { name, place, memory, cpu } = this.#options;
    const { url, apiKey } = place();
    const { total_mb, free_mb, reserve_mb } = memory();
    const { cores, load_average: [load] } = cpu();
    return {
      node_name: name,
      instance: this.#instance,
      hive_url: url,
      api_key: apiKey,
      version: VERSION,
      memory: { total_mb, free_mb, reserve_mb },
      cpu: { cores, load },
    };
  }

  #forgetTold(): void {
    this.#told = { devices: "", models: "", blocks: new Map() };
  }
}

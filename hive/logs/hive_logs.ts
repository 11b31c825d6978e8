/** The logs of one machine: the hive's own and those of its workers, kept within bounds and told to whoever asks. */
import { RbeeError } from "../../protocol/errors.ts";
import type { Clock } from "../../daemon/clock.ts";
import { LOG_FILE_MAX_BYTES, LOG_LINES_TOLD_MAX, LOG_RINGS_GONE_MAX } from "../limits.ts";
import type { WorkerEvent } from "../workers/worker_options.ts";
import { cutLog, LogFile, rotatedPath } from "./log_file.ts";
import { readLogLine } from "./log_line.ts";
import { type KeptLine, keptLine, LogRing } from "./log_ring.ts";
import { findLogs, outdatedLogs, removeLog, workerLogPath } from "./old_logs.ts";

/** Which lines are wanted. */
export interface WantedLines {
  /** Only what this worker says and what is said of it. */
  workerId?: string;
  /** Only lines from this time on, in ms since 1970. */
  sinceMs?: number;
  /** Only lines that were read after the one with this `seq`. */
  afterSeq?: number;
  /** At most so many, the latest. */
  tail?: number;
}

/** Options of {@linkcode HiveLogs}. */
export interface HiveLogsOptions {
  /** The rbee home. */
  home: string;
  /** For lines that tell no time. */
  clock: Clock;
  /** Overrides {@linkcode LOG_FILE_MAX_BYTES}. */
  maxFileBytes?: number;
}

/** The log of a worker that is on the list or has left it of late. */
interface WorkerLog {
  readonly file: LogFile;
  readonly ring: LogRing;
  gone: boolean;
}

/** See above. Workers' files are read when somebody asks, and now and then. */
export class HiveLogs {
  readonly #home: string;
  readonly #clock: Clock;
  readonly #maxFileBytes: number;
  readonly #own = new LogRing();
  readonly #workers = new Map<string, WorkerLog>();
  #seq = 0;

  /** Reads nothing yet. */
  constructor(options: HiveLogsOptions) {
    this.#home = options.home;
    this.#clock = options.clock;
    this.#maxFileBytes = options.maxFileBytes ?? LOG_FILE_MAX_BYTES;
  }

  /** The hive itself has written this line. Never throws. */
  own(text: string): void {
    this.#keep(this.#own, text, { source: "hive" });
  }

  /** Something happened to a worker. */
  workerEvent({ kind, worker: { record } }: WorkerEvent): void {
    if (kind === "listed") this.#workers.set(record.id, this.#workerLog(record.id, record.logPath));
    if (kind !== "exited") return;
    this.#workers.get(record.id)!.gone = true;
    const gone = [...this.#workers].filter(([, log]) => log.gone);
    for (const [id] of gone.slice(0, -LOG_RINGS_GONE_MAX)) this.#workers.delete(id);
  }

  /**
   * Whether anything can be read of this worker.
   *
   * @throws {RbeeError} `WORKER_NOT_FOUND`.
   */
  async require(workerId: string): Promise<void> {
    if (this.#workers.has(workerId)) return;
    const logs = await findLogs(this.#home, new Set());
    if (logs.some((log) => log.workerId === workerId)) return;
    throw new RbeeError(
      "WORKER_NOT_FOUND",
      `This hive has no log of a worker ${JSON.stringify(workerId.slice(0, 64))}.`,
    );
  }

  /** Whether there will be more of this worker. */
  isLive(workerId: string): boolean {
    return this.#workers.get(workerId)?.gone === false;
  }

  /**
   * Lines that there are, in the order of their time, and the `seq` of the last one looked at. Of a worker that left
   * long ago they come from its file, as far as that is still there.
   *
   * @throws {RbeeError} `WORKER_NOT_FOUND` when nothing is known of it.
   */
  async read(wanted: WantedLines): Promise<{ lines: KeptLine[]; seq: number }> {
    const { workerId, sinceMs = 0, afterSeq = 0, tail = LOG_LINES_TOLD_MAX } = wanted;
    const logs = workerId === undefined ? [...this.#workers.values()] : [await this.#logOf(workerId)];
    await Promise.all(logs.map(({ file, gone }) => gone ? file.finish() : file.catchUp()));
    const lines = [this.#own, ...logs.map(({ ring }) => ring)].flatMap((ring) => ring.after(afterSeq))
      .filter((line) => line.timeMs >= sinceMs && (workerId ?? line.workerId) === line.workerId)
      .sort((a, b) => a.timeMs - b.timeMs || a.seq - b.seq);
    return { lines: tail === 0 ? [] : lines.slice(-Math.min(tail, LOG_LINES_TOLD_MAX)), seq: this.#seq };
  }

  /**
   * Cuts logs that have grown too large (`ownFile` is the hive's, where it has one) and removes those of workers that
   * left long ago.
   *
   * @throws {AggregateError} what went wrong; all else is done.
   */
  async tidy(ownFile?: string): Promise<void> {
    const cuts: Promise<unknown>[] = [...this.#workers.values()].map(async ({ file }) => {
      await file.catchUp();
      await file.rotate(this.#maxFileBytes);
    });
    if (ownFile !== undefined) cuts.push(cutLog(ownFile, this.#maxFileBytes));
    const logs = await findLogs(this.#home, new Set(this.#workers.keys()));
    const removals = outdatedLogs(logs).map(({ workerId }) => removeLog(this.#home, workerId));
    const results = await Promise.allSettled([...cuts, ...removals]);
    const failures = results.flatMap((result) => result.status === "rejected" ? [result.reason] : []);
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("; "));
  }

  async #logOf(workerId: string): Promise<WorkerLog> {
    const known = this.#workers.get(workerId);
    if (known !== undefined) return known;
    await this.require(workerId);
    const path = workerLogPath(this.#home, workerId);
    const log = this.#workerLog(workerId, path);
    const before = new LogFile(rotatedPath(path), (text) => this.#keepOf(workerId, log.ring, text));
    await before.finish();
    return { ...log, gone: true };
  }

  #workerLog(workerId: string, path: string): WorkerLog {
    const ring = new LogRing();
    return { ring, file: new LogFile(path, (text) => this.#keepOf(workerId, ring, text)), gone: false };
  }

  #keepOf(workerId: string, ring: LogRing, text: string): void {
    this.#keep(ring, text, { source: "worker", workerId });
  }

  #keep(ring: LogRing, text: string, of: { source: "hive" | "worker"; workerId?: string }): void {
    ring.push(keptLine(++this.#seq, readLogLine(text, { ...of, nowMs: this.#clock.unixMs() })));
  }
}

/** A file's transfer from a server that does what the test says, piece by piece: nothing is left to time. */
import { createHash } from "node:crypto";
import { RbeeError } from "../../protocol/errors.ts";
import { Bandwidth } from "./bandwidth.ts";
import type { ByteRange } from "./chunk_map.ts";
import type { HubAnswer, Validator } from "./hub_http.ts";
import { MODEL_LIMITS, type ModelLimits } from "./limits.ts";
import { PartFile } from "./part_file.ts";
import { tempFolder } from "./part_file_test_bed.ts";
import { AttemptFailed, type Failure } from "./retry_plan.ts";
import type { RetryNotice } from "./retries.ts";
import { StallWatch } from "./stall_watch.ts";
import { type FileSource, transferFile } from "./transfer.ts";

/** What the server calls the content. */
export const ETAG = '"first"';

/** Trouble with a connection, as `HubHttp` tells it. */
export function failure(about: Partial<Failure> = {}): AttemptFailed {
  const whole: Failure = { kind: "network", reason: "the connection broke", ...about };
  return new AttemptFailed(whole, new RbeeError("DOWNLOAD_FAILED", `Cannot fetch x: ${whole.reason}.`));
}

/** How a request is answered when it is not with the part that it asks for. */
export type OddAnswer =
  | { kind: "whole"; content: Uint8Array }
  | { kind: "refused"; error: AttemptFailed }
  /** A part of another range, of a file of another size, or with other bytes than it says; without its length. */
  | { kind: "part"; says?: Partial<ByteRange & { size: number }>; sends?: Partial<ByteRange> };

/** One answer on its way. */
export class ScriptedAnswer {
  /** What was asked for. */
  readonly range: ByteRange;
  /** What the caller knew of the content. */
  readonly validator: Validator | undefined;
  readonly #bytes: Uint8Array;
  readonly #gone = Promise.withResolvers<void>();
  #controller!: ReadableByteStreamController;
  /** Resolves when the caller waits for bytes. */
  #asked = Promise.withResolvers<void>();
  #sentBytes = 0;
  #over = false;

  constructor(bytes: Uint8Array, request: { range: ByteRange; validator?: Validator; signal: AbortSignal }) {
    this.#bytes = bytes;
    this.range = request.range;
    this.validator = request.validator;
    request.signal.addEventListener("abort", () => void this.fail(request.signal.reason));
  }

  /** Whether the caller has let go of it. */
  get over(): boolean {
    return this.#over;
  }

  /** Resolves when the caller waits for bytes, or has let go. */
  async awaited(): Promise<void> {
    await Promise.race([this.#asked.promise, this.#gone.promise]);
  }

  /** Sends so many bytes; resolves when they were dealt with and the next ones are waited for. */
  async give(count: number): Promise<void> {
    await this.awaited();
    if (this.#over) return;
    this.#asked = Promise.withResolvers();
    this.#controller.enqueue(this.#bytes.slice(this.#sentBytes, this.#sentBytes += count));
    await this.awaited();
  }

  /** Sends what is left; resolves when the caller has let go. */
  async finish(): Promise<void> {
    while (this.#sentBytes < this.#bytes.length && !this.#over) await this.give(MOST_AT_ONCE_BYTES);
    if (this.#over) return;
    this.#controller.close();
    this.#controller.byobRequest?.respond(0);
    await this.#gone.promise;
  }

  /** Breaks off; resolves when the caller has let go. */
  async fail(reason: unknown = failure()): Promise<void> {
    if (this.#over) return;
    this.#controller.error(reason);
    await this.#gone.promise;
  }

  /** For the caller. */
  answer(about: { status: number; headers: Record<string, string> }): HubAnswer {
    const body = new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#asked.resolve(),
    });
    // Nobody is timed here.
    const watch = new StallWatch(MODEL_LIMITS);
    watch[Symbol.dispose]();
    return {
      response: new Response(body, about),
      url: new URL("http://storage.test/x"),
      ...{ watch, signal: new AbortController().signal },
      readFailure: (error) => error instanceof AttemptFailed ? error : failure({ reason: String(error) }),
      [Symbol.dispose]: () => this.letGo(),
    };
  }

  /** Nobody reads it any more. */
  letGo(): void {
    this.#over = true;
    this.#gone.resolve();
  }
}

/** Less than is read at once. */
const MOST_AT_ONCE_BYTES = 100_000;

/** See the file's head. */
export class ScriptedSource implements FileSource {
  /** For messages. */
  readonly repo = "acme/scripted";
  /** All answers, in order. */
  readonly answers: ScriptedAnswer[] = [];
  /** By the number of the request. */
  readonly odd = new Map<number, OddAnswer>();
  /** Most answers that were under way at the same time. */
  mostAtOnce = 0;
  readonly #content: Uint8Array;
  #waiting: (() => void)[] = [];
  #serving = false;

  constructor(content: Uint8Array) {
    this.#content = content;
  }

  /** What was asked for. */
  get ranges(): [number, number][] {
    return this.answers.map(({ range }) => [range.start, range.end]);
  }

  /** The answers under way. */
  get running(): ScriptedAnswer[] {
    return this.answers.filter((answer) => !answer.over);
  }

  /** The answer to a request, once that was made and the first bytes are waited for. */
  async answerTo(index: number): Promise<ScriptedAnswer> {
    while (this.answers.length <= index) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    await this.answers[index].awaited();
    return this.answers[index];
  }

  /** From now on everything is sent at once. */
  serve(): void {
    this.#serving = true;
    for (const answer of this.running) void answer.finish();
  }

  /** As the interface says. */
  open(range: ByteRange, request: { signal: AbortSignal; validator?: Validator }): Promise<HubAnswer> {
    if (request.signal.aborted) return Promise.reject(failure({ reason: "nobody waits for it" }));
    const odd = this.odd.get(this.answers.length);
    const { bytes, status, headers } = this.#reply(range, odd);
    const answer = new ScriptedAnswer(bytes, { range, ...request });
    this.answers.push(answer);
    this.mostAtOnce = Math.max(this.mostAtOnce, this.running.length);
    for (const wake of this.#waiting.splice(0)) wake();
    const made = answer.answer({ status, headers });
    if (odd?.kind === "refused") {
      answer.letGo();
      return Promise.reject(odd.error);
    }
    if (this.#serving) void answer.finish();
    return Promise.resolve(made);
  }

  #reply(range: ByteRange, odd: OddAnswer | undefined) {
    const length = (bytes: Uint8Array) => ({ "Content-Length": String(bytes.length) });
    if (odd?.kind === "whole") {
      return { bytes: odd.content, status: 200, headers: { ETag: ETAG, ...length(odd.content) } };
    }
    const { says, sends } = odd?.kind === "part" ? odd : {};
    const { start, end, size } = { ...range, size: this.#content.length, ...says };
    const sent = { ...range, ...sends };
    const bytes = this.#content.subarray(sent.start, sent.end);
    const headers = { "ETag": ETAG, "Content-Range": `bytes ${start}-${end - 1}/${size}` };
    return { bytes, status: 206, headers: odd === undefined ? { ...headers, ...length(bytes) } : headers };
  }
}

/** A transfer from a {@linkcode ScriptedSource} into a folder of its own; disposing removes that. */
export interface ScriptedTransfer extends AsyncDisposable {
  source: ScriptedSource;
  /** Where the parts go, and where the file will be. */
  paths: { partial: string; blob: string };
  /** Undefined when all went well, else the error. */
  ended: Promise<unknown>;
  /** Failed attempts. */
  retries: RetryNotice[];
  /** Every count of bytes that was told. */
  haveBytes: number[];
  /** What everybody takes for the time in ms; it stands still until it is moved. */
  clock: { ms: number };
  /** Ends it. */
  cancel: (reason: unknown) => void;
  /** What the next one would not have to fetch. */
  keptBytes: () => number;
}

/** Starts one. No pause between attempts is waited for. */
export async function startTransfer(
  content: Uint8Array,
  options: {
    limits?: Partial<ModelLimits>;
    odd?: Record<number, OddAnswer>;
    /** Of what the hub says the file is. Default: of `content`. */
    sha256?: string;
    /** Bytes of the content that an earlier try has left. */
    keptBytes?: number;
  } = {},
): Promise<ScriptedTransfer> {
  const folder = await tempFolder();
  const paths = { partial: `${folder.path}/x.rbee-part`, blob: `${folder.path}/x`, snapshot: "" };
  const limits = { ...MODEL_LIMITS, chunkBytes: 500, partBytes: 2_000, connections: 3, ...options.limits };
  const source = new ScriptedSource(content);
  for (const [index, odd] of Object.entries(options.odd ?? {})) source.odd.set(Number(index), odd);
  const size = content.length;
  const hex = options.sha256 ?? createHash("sha256").update(content).digest("hex");
  const timing = { now: () => performance.now(), random: () => 0.5, delay: () => Promise.resolve() };
  const retries: RetryNotice[] = [];
  const haveBytes: number[] = [];
  const canceled = new AbortController();
  const open = { size, chunkBytes: limits.chunkBytes };
  if (options.keptBytes !== undefined) {
    using part = await PartFile.open(paths.partial, open);
    const pieces = [content.slice(0, options.keptBytes)];
    await part.receive(0, () => Promise.resolve(pieces.shift()));
  }
  const clock = stoppedClock();
  const file = { path: "x.gguf", size, digest: { algorithm: "sha256", hex } } as const;
  let onDisk: Promise<unknown> | undefined;
  const ended = transferFile({ file, paths }, {
    ...{ source, limits, timing, signal: canceled.signal, bandwidth: new Bandwidth(undefined, timing) },
    onRetry: (notice) => void retries.push(notice),
    onBytes: (count) => void haveBytes.push(count),
    onNamed: (settled) => void (onDisk = settled),
  }).then(() => undefined, (error) => error);
  return {
    ...{ source, paths, ended, retries, haveBytes, clock },
    cancel: (reason) => canceled.abort(reason),
    keptBytes: () => PartFile.keptBytes(paths.partial, open),
    async [Symbol.asyncDispose]() {
      canceled.abort();
      await ended;
      await onDisk;
      clock[Symbol.dispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

function stoppedClock(): Disposable & { ms: number } {
  const { now } = performance;
  // Without a fraction, so that sums are exact.
  const clock = {
    ms: Math.ceil(now.call(performance)),
    [Symbol.dispose]: () => void (performance.now = now),
  };
  performance.now = () => clock.ms;
  return clock;
}

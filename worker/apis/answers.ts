/** Runs the answers of one request, whatever interface it came by: one of them, or several to the same prompt. */
import { RbeeError, toRbeeError } from "../../protocol/errors.ts";
import type { BegunAnswer } from "../../protocol/relay_schemas.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import { deadlineOf } from "../../daemon/deadline.ts";
import type { NativeChat, NativeMark } from "../native/addon.ts";
import { type Accepted, boundBy, type Work } from "../work.ts";
import type { Worker } from "../worker.ts";
import { type ChatReader, type Delta, readerFor } from "./chat_reader.ts";
import { MAX_ANSWERS } from "../../protocol/limits.ts";
import { MAX_SEED } from "../../protocol/worker_requests.ts";
import { SLOT_RETRY_DELAY_MS } from "../limits.ts";
import type { AnswerContext } from "./relay.ts";

/** What is new of one answer: what it says, and its tokens. Either may be empty. */
export interface News {
  deltas: Delta[];
  tokens: TokenEvent[];
  /** Where a marked answer stands behind them. */
  mark?: NativeMark;
  /** It was told by another worker; only the text of its token is known. */
  old?: boolean;
}

/** Receives the answers. Nothing follows `failed`. */
export interface AnswersSink {
  /** See {@linkcode News}. */
  news(choice: number, news: News): void;
  /** One answer came to its end; `old`: at another worker. */
  ended(choice: number, stats: InferenceStats, old?: boolean): void;
  /** All did. */
  over(): void;
  /** One failed, the others were canceled. */
  failed(error: RbeeError): void;
}

/** What is asked for. */
export interface AskedAnswers {
  /** One each; those after the first take over what became of its conversation. */
  works: readonly Work[];
  /** What the answer is called. */
  requestId: string;
}

/**
 * Checks how many answers a request asks for, before anything is made of them.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when they are more than {@linkcode MAX_ANSWERS}.
 */
export function requireAnswersWithinLimit(asked: { prompts: number; n?: number | null }): void {
  const { prompts } = asked;
  const n = asked.n ?? 1;
  if (prompts * n <= MAX_ANSWERS) return;
  const message = `${prompts} prompts with n = ${n} ask for ${
    prompts * n
  } answers; the limit is ${MAX_ANSWERS}`;
  throw new RbeeError("INVALID_REQUEST", `${message}. Send fewer prompts, or a smaller n.`, {
    details: { errors: [{ field: "prompt", constraint: "too_big", message }] },
  });
}

/**
 * Starts answers and resolves once the first is accepted, to how to cancel them; `begin` is called before the sink is
 * told anything. Those that find no free slot wait until there is one.
 *
 * @throws {RbeeError} why they can't be; then the sink hears nothing.
 */
export async function startAnswers(
  worker: Worker,
  asked: AskedAnswers,
  how: { sink: AnswersSink; context: AnswerContext; begin?: (answers: readonly Accepted[]) => void },
): Promise<() => void> {
  const { relay } = how.context;
  const works = relay === undefined ? asked.works : asked.works.map((work, i): Work => ({
    ...work,
    marked: true,
    cacheScope: relay.cacheScope,
    common: relay.common,
    begun: relay.begun?.[i],
  }));
  // What is relayed may have been lost on this very worker a moment ago.
  const requestId = relay === undefined ? asked.requestId : crypto.randomUUID();
  const answers = new Answers(worker, { ...how, count: works.length });
  const idOf = (choice: number) => choice === 0 ? requestId : `${requestId}-${choice}`;
  const accepted: Accepted[] = [];
  const waiting: Start[] = [];
  let rendered: NativeChat | undefined;
  let started = false;
  try {
    for (const [choice, work] of works.entries()) {
      const begun = relay?.begun?.[choice];
      if (begun?.stats !== undefined) {
        accepted.push(answers.ended(choice, { begun, stats: begun.stats }));
        continue;
      }
      const same = sameConversation(work, rendered);
      const start = { choice, requestId: idOf(choice), work: same, rendered };
      const taken = started && (waiting.length > 0 || worker.engine.slotsAvailable === 0)
        ? undefined
        : await answers.start(start).catch((error) => {
          if (!started || !isBusy(error)) throw error;
        });
      if (taken === undefined) {
        const seeded = withSeed(same);
        waiting.push({ ...start, work: seeded });
        accepted.push({ ...accepted[0], seed: seeded.seed });
      } else {
        started = true;
        rendered ??= taken.rendered;
        accepted.push(taken);
      }
    }
  } catch (error) {
    answers.abandon();
    throw error;
  }
  how.begin?.(accepted);
  answers.release();
  void answers.startWaiting(waiting);
  return () => answers.cancel();
}

function isBusy(error: unknown): boolean {
  return error instanceof RbeeError && error.code === "ALL_SLOTS_BUSY";
}

/** Chooses the seed of an answer that has to wait, so that a relay can be given it. */
function withSeed(work: Work): Work & { seed: number } {
  const begun = "begun" in work ? work.begun?.seed : undefined;
  return {
    ...work,
    seed: begun ?? work.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] % (MAX_SEED + 1),
  };
}

/** One answer to be started. */
interface Start {
  choice: number;
  requestId: string;
  work: Work;
  /** The conversation that the work is about, where the engine will not render it. */
  rendered?: NativeChat;
}

class Answers {
  readonly #worker: Worker;
  readonly #sink: AnswersSink;
  readonly #context: AnswerContext;
  /** Of `performance.now`. */
  readonly #endMs: number | undefined;
  /** By choice; none for one that ended at another worker, or that waits. */
  readonly #ids: string[] = [];
  /** Not over yet, whether they run or wait. */
  #open: number;
  #over = false;
  #canceled = false;
  /** Settles when one of these answers has given its slot back. */
  #slotFreed = Promise.withResolvers<void>();
  /** What other workers have told. */
  readonly #old: (() => void)[] = [];
  /** What came before all were accepted. */
  #early: (() => void)[] | undefined = [];

  constructor(worker: Worker, how: { sink: AnswersSink; context: AnswerContext; count: number }) {
    this.#open = how.count;
    this.#worker = worker;
    this.#sink = how.sink;
    this.#context = how.context;
    const deadlineMs = deadlineOf(how.context.request.headers);
    this.#endMs = deadlineMs === undefined ? undefined : performance.now() + deadlineMs;
  }

  async start({ choice, requestId, work, rendered }: Start): Promise<Accepted> {
    const log = this.#context.log.child({ request_id: requestId });
    // Known once it is accepted; until then what comes is held back.
    const answer: { reader?: ChatReader } = {};
    const held: ((reader: ChatReader) => void)[] = [];
    const act = (tell: (reader: ChatReader) => void) => {
      const { reader } = answer;
      if (reader === undefined) held.push(tell);
      else this.#act(() => tell(reader));
    };
    this.#ids[choice] = requestId;
    const accepted = await this.#worker.run(work, {
      requestId,
      deadlineMs: this.#endMs && Math.max(1, this.#endMs - performance.now()),
      sink: {
        tokens: (tokens, mark) => act((reader) => this.#tokens(choice, { reader, tokens, mark })),
        done: (stats) => {
          this.#slotFreed.resolve();
          log.info("answer ended", { ...stats });
          act((reader) => this.#done(choice, { reader, stats }));
        },
        failed: (error) => {
          this.#slotFreed.resolve();
          log.error("answer failed", { error });
          act(() => this.#fail(error));
        },
      },
    });
    const reader = answer.reader = readerFor(
      accepted.rendered ?? rendered,
      `${this.#context.relay?.id ?? requestId}${choice}`,
    );
    if (accepted.sentTexts.length > 0) {
      this.#tellFirst(() => this.#tellOld(choice, { reader, texts: accepted.sentTexts }));
    }
    for (const tell of held) this.#act(() => tell(reader));
    return accepted;
  }

  /** Starts the waiting answers as slots become free. Never rejects: errors go to the sink. */
  async startWaiting(waiting: readonly Start[]): Promise<void> {
    try {
      for (const start of waiting) await this.#startWhenFree(start);
    } catch (error) {
      this.#fail(toRbeeError(error));
    }
  }

  async #startWhenFree(start: Start): Promise<void> {
    for (;;) {
      if (this.#canceled) {
        throw new RbeeError("REQUEST_CANCELED", "The request was canceled before all its answers had begun.");
      }
      this.#slotFreed = Promise.withResolvers();
      try {
        if (this.#worker.engine.slotsAvailable > 0) {
          await this.start(start);
          // It may have been canceled while it was being accepted.
          if (this.#canceled) this.#worker.cancel(start.requestId);
          return;
        }
      } catch (error) {
        if (!isBusy(error)) throw error;
      }
      // Others may hold the slots, and say nothing when they give them back.
      const again = setTimeout(this.#slotFreed.resolve, SLOT_RETRY_DELAY_MS);
      await this.#slotFreed.promise;
      clearTimeout(again);
    }
  }

  /** One that has come to its end at another worker, while others have not. */
  ended(choice: number, what: { begun: BegunAnswer; stats: InferenceStats }): Accepted {
    const { begun, stats } = what;
    this.#old.push(() => {
      this.#sink.ended(choice, stats, true);
      this.#oneLess();
    });
    return { promptTokens: stats.prompt_tokens, seed: begun.seed, sentTexts: [], blocks: new Float64Array() };
  }

  /** All are accepted: from now on the sink is told. */
  release(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const act of this.#old) this.#act(act);
    for (const act of early) act();
  }

  /** Those that wait are given up, and told as those that run are. */
  cancel(): void {
    this.#canceled = true;
    this.#slotFreed.resolve();
    for (const id of this.#ids) if (id !== undefined) this.#worker.cancel(id);
  }

  /** Nobody wants to hear of them any more. */
  abandon(): void {
    this.#over = true;
    this.cancel();
  }

  /** Before anything else of that answer is told. */
  #tellFirst(act: () => void): void {
    if (this.#early === undefined) this.#act(act);
    else this.#old.push(act);
  }

  #act(act: () => void): void {
    if (this.#early !== undefined) return void this.#early.push(act);
    try {
      act();
    } catch (error) {
      this.#fail(toRbeeError(error));
    }
  }

  #tokens(choice: number, what: { reader: ChatReader; tokens: TokenEvent[]; mark?: NativeMark }): void {
    if (this.#over) return;
    const { reader, tokens, mark } = what;
    const texts = tokens.map((token) => token.token);
    // Reading costs the more the longer the answer is, so a batch is read at once.
    const deltas = reader.plain
      ? texts.flatMap((text) => reader.push(text, false))
      : reader.push(texts.join(""), false);
    this.#sink.news(choice, { deltas, tokens, mark });
  }

  #done(choice: number, what: { reader: ChatReader; stats: InferenceStats }): void {
    if (this.#over) return;
    const deltas = what.reader.push("", true);
    if (deltas.length > 0) this.#sink.news(choice, { deltas, tokens: [] });
    this.#sink.ended(choice, what.stats);
    this.#oneLess();
  }

  #oneLess(): void {
    if (--this.#open > 0) return;
    this.#over = true;
    this.#sink.over();
  }

  /** Token by token, as it may have been told: what counts them must not count fewer. */
  #tellOld(choice: number, what: { reader: ChatReader; texts: readonly string[] }): void {
    for (const token of what.texts) {
      const deltas = what.reader.push(token, false);
      this.#sink.news(choice, { deltas, tokens: [{ token, index: 0, id: 0 }], old: true });
    }
  }

  #fail(error: RbeeError): void {
    if (this.#over) return;
    this.abandon();
    this.#sink.failed(error);
  }
}

/** The same conversation need not be rendered again. */
function sameConversation(work: Work, rendered: NativeChat | undefined): Work {
  if (rendered === undefined || "resume" in work) return work;
  return { ...boundBy(rendered, work), chat: undefined, prompt: rendered.prompt };
}

/** Runs the answers of one request, whatever interface it came by: one of them, or several to the same prompt. */
import { RbeeError, toRbeeError } from "../../protocol/errors.ts";
import type { BegunAnswer } from "../../protocol/relay_schemas.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import { deadlineOf } from "../../daemon/deadline.ts";
import type { NativeChat, NativeMark } from "../native/addon.ts";
import { type Accepted, boundBy, type Work } from "../work.ts";
import type { Worker } from "../worker.ts";
import { type ChatReader, type Delta, readerFor } from "./chat_reader.ts";
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

/** Who is told of the answers. After `failed` nothing comes. */
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
 * Starts answers and resolves once all are accepted, to how to cancel them; `begin` is called before the sink is told
 * anything.
 *
 * @throws {RbeeError} why they can't be; then the sink hears nothing.
 */
export async function startAnswers(
  worker: Worker,
  asked: AskedAnswers,
  how: { sink: AnswersSink; context: AnswerContext; begin?: (answers: readonly Accepted[]) => void },
): Promise<() => void> {
  const { relay } = how.context;
  const works = relay === undefined
    ? asked.works
    : asked.works.map((work, i): Work => ({ ...work, marked: true, begun: relay.begun?.[i] }));
  // What is relayed may have been lost on this very worker a moment ago.
  const requestId = relay === undefined ? asked.requestId : crypto.randomUUID();
  const { slots } = worker.engine;
  if (works.length > slots) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `${works.length} answers were asked for, this worker has ${slots} slots.`,
    );
  }
  const answers = new Answers(worker, how);
  const idOf = (choice: number) => choice === 0 ? requestId : `${requestId}-${choice}`;
  const accepted: Accepted[] = [];
  let rendered: NativeChat | undefined;
  try {
    for (const [choice, work] of works.entries()) {
      const begun = relay?.begun?.[choice];
      const taken = begun?.stats === undefined
        ? await answers.start(idOf(choice), sameConversation(work, rendered), rendered)
        : answers.ended(idOf(choice), { begun, stats: begun.stats });
      rendered ??= taken.rendered;
      accepted.push(taken);
    }
  } catch (error) {
    answers.abandon();
    throw error;
  }
  how.begin?.(accepted);
  answers.release();
  return () => answers.cancel();
}

class Answers {
  readonly #worker: Worker;
  readonly #sink: AnswersSink;
  readonly #context: AnswerContext;
  readonly #deadlineMs: number | undefined;
  readonly #ids: string[] = [];
  #running = 0;
  #over = false;
  /** What other workers have told. */
  readonly #old: (() => void)[] = [];
  /** What came before all were accepted. */
  #early: (() => void)[] | undefined = [];

  constructor(worker: Worker, how: { sink: AnswersSink; context: AnswerContext }) {
    this.#worker = worker;
    this.#sink = how.sink;
    this.#context = how.context;
    this.#deadlineMs = deadlineOf(how.context.request.headers);
  }

  /** `rendered` is the conversation that the work is about, where the engine will not render it. */
  async start(requestId: string, work: Work, rendered?: NativeChat): Promise<Accepted> {
    const choice = this.#ids.push(requestId) - 1;
    this.#running++;
    const log = this.#context.log.child({ request_id: requestId });
    // Known once it is accepted; until then what comes is held back.
    const answer: { reader?: ChatReader } = {};
    const accepted = await this.#worker.run(work, {
      requestId,
      deadlineMs: this.#deadlineMs,
      sink: {
        tokens: (tokens, mark) =>
          this.#act(() => this.#tokens(choice, { reader: answer.reader!, tokens, mark })),
        done: (stats) => {
          log.info("answer ended", { ...stats });
          this.#act(() => this.#done(choice, { reader: answer.reader!, stats }));
        },
        failed: (error) => {
          log.error("answer failed", { error });
          this.#act(() => this.#fail(error));
        },
      },
    });
    const reader = answer.reader = readerFor(
      accepted.rendered ?? rendered,
      `${this.#context.relay?.id ?? requestId}${choice}`,
    );
    if (accepted.sentTexts.length > 0) {
      this.#old.push(() => this.#tellOld(choice, { reader, texts: accepted.sentTexts }));
    }
    return accepted;
  }

  /** One that has come to its end at another worker, while others have not. */
  ended(requestId: string, what: { begun: BegunAnswer; stats: InferenceStats }): Accepted {
    const { begun, stats } = what;
    const choice = this.#ids.push(requestId) - 1;
    this.#running++;
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

  cancel(): void {
    for (const id of this.#ids) this.#worker.cancel(id);
  }

  /** Nobody wants to hear of them any more. */
  abandon(): void {
    this.#over = true;
    this.cancel();
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
    if (--this.#running > 0) return;
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

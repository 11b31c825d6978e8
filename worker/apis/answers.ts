/** Runs the answers of one request, whatever interface it came by: one of them, or several to the same prompt. */
import type { RequestContext } from "../../daemon/serve.ts";
import { RbeeError, toRbeeError } from "../../protocol/errors.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import { deadlineOf } from "../inference.ts";
import type { NativeChat } from "../native/addon.ts";
import { type Accepted, boundBy, type Work } from "../work.ts";
import type { Worker } from "../worker.ts";
import { type ChatReader, type Delta, readerFor } from "./chat_reader.ts";

/** Who is told of the answers. After `failed` nothing comes. */
export interface AnswersSink {
  /** News of one answer: what it says, and its tokens. Either may be empty. */
  news(choice: number, news: { deltas: Delta[]; tokens: TokenEvent[] }): void;
  /** One answer came to its end. */
  ended(choice: number, stats: InferenceStats): void;
  /** All did. */
  over(): void;
  /** One failed, the others were canceled. */
  failed(error: RbeeError): void;
}

/** What is asked for. */
export interface AskedAnswers {
  /** One each; those after the first take over what became of its conversation. */
  works: readonly Work[];
  /** Of the first; the others count on. */
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
  how: { sink: AnswersSink; context: RequestContext; begin?: (first: Accepted) => void },
): Promise<() => void> {
  const { works, requestId } = asked;
  const { slots } = worker.engine;
  if (works.length > slots) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `${works.length} answers were asked for, this worker has ${slots} slots.`,
    );
  }
  const answers = new Answers(worker, how);
  const idOf = (choice: number) => choice === 0 ? requestId : `${requestId}-${choice}`;
  let first: Accepted;
  try {
    first = await answers.start(idOf(0), works[0]);
    const { rendered } = first;
    for (const [choice, work] of works.entries()) {
      if (choice > 0) await answers.start(idOf(choice), sameConversation(work, rendered), rendered);
    }
  } catch (error) {
    answers.abandon();
    throw error;
  }
  how.begin?.(first);
  answers.release();
  return () => answers.cancel();
}

class Answers {
  readonly #worker: Worker;
  readonly #sink: AnswersSink;
  readonly #context: RequestContext;
  readonly #deadlineMs: number | undefined;
  readonly #ids: string[] = [];
  #running = 0;
  #over = false;
  /** What came before all were accepted. */
  #early: (() => void)[] | undefined = [];

  constructor(worker: Worker, how: { sink: AnswersSink; context: RequestContext }) {
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
        tokens: (tokens) => this.#act(() => this.#tokens(choice, { reader: answer.reader!, tokens })),
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
    answer.reader = readerFor(accepted.rendered ?? rendered);
    return accepted;
  }

  /** All are accepted: from now on the sink is told. */
  release(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
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

  #tokens(choice: number, what: { reader: ChatReader; tokens: TokenEvent[] }): void {
    if (this.#over) return;
    const { reader, tokens } = what;
    const texts = tokens.map((token) => token.token);
    // Reading costs the more the longer the answer is, so a batch is read at once.
    const deltas = reader.plain
      ? texts.flatMap((text) => reader.push(text, false))
      : reader.push(texts.join(""), false);
    this.#sink.news(choice, { deltas, tokens });
  }

  #done(choice: number, what: { reader: ChatReader; stats: InferenceStats }): void {
    this.#running--;
    if (this.#over) return;
    const deltas = what.reader.push("", true);
    if (deltas.length > 0) this.#sink.news(choice, { deltas, tokens: [] });
    this.#sink.ended(choice, what.stats);
    if (this.#running > 0) return;
    this.#over = true;
    this.#sink.over();
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

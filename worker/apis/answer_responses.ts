/** Answers as HTTP: a stream that tells of them as they grow, or all of them once they are whole. */
import { eventResponse } from "../../daemon/serve.ts";
import { errorIn } from "../../protocol/dialects.ts";
import type { Dialect } from "../../protocol/dialects.ts";
import type { RbeeError } from "../../protocol/errors.ts";
import { eventStream, type EventStreamOptions, type EventWriter, formatEvent } from "../../protocol/sse.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { Accepted } from "../work.ts";
import type { Worker } from "../worker.ts";
import { type AnswersSink, type AskedAnswers, startAnswers } from "./answers.ts";
import { MessageBuilder, type WholeMessage } from "./chat_reader.ts";
import { type AnswerContext, Marks } from "./relay.ts";

/** Tells of answers in one interface's words. */
export interface AnswerTeller {
  /** Before everything; `first` is what was settled about the first answer. */
  begin?(first: Accepted): void;
  /** See {@linkcode AnswersSink}. */
  news: AnswersSink["news"];
  ended(choice: number, stats: InferenceStats): void;
  over?(): void;
  /** Default: the error as an event. */
  failed?(error: RbeeError): void;
}

/** Gathers named events, so that those of one batch of tokens go out as one chunk. */
export class NamedEvents {
  readonly #writer: EventWriter;
  #text = "";

  constructor(writer: EventWriter) {
    this.#writer = writer;
  }

  /** One more; its name stands in its data as well. */
  add(type: string, data: Record<string, unknown>): void {
    this.#text += `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
  }

  /** Sends what was gathered. */
  flush(): void {
    this.#writer.write(this.#text);
    this.#text = "";
  }
}

/** Options of {@linkcode streamedAnswers}. */
export interface StreamedOptions {
  /** For the error that ends a stream. */
  dialect: Dialect;
  /** Other than those of OpenAI's streams. */
  texts?: EventStreamOptions["texts"];
  /** Other than those of server-sent events. */
  headers?: Record<string, string>;
}

/** Answers with a stream. Throws what is wrong before its first byte. */
export async function streamedAnswers(
  what: { worker: Worker; asked: AskedAnswers; context: AnswerContext },
  open: (writer: EventWriter) => AnswerTeller,
  options: StreamedOptions,
): Promise<Response> {
  const { worker, asked, context } = what;
  let writer!: EventWriter;
  let cancel = () => {};
  // A reader that goes away is a cancel.
  const stream = eventStream((opened) => writer = opened, { onCancel: () => cancel(), texts: options.texts });
  const { begun } = context.relay ?? {};
  // What another worker has told is not told again, but it is what the rest builds on.
  let mute = begun !== undefined;
  // What is told and its mark go out as one chunk: who relays it is woken once.
  let gathered = "";
  const write = context.relay === undefined
    ? (text: string) => writer.write(text)
    : (text: string) => void (gathered += text);
  const flush = () => {
    writer.write(gathered);
    gathered = "";
  };
  const teller = open({
    write: (text) => mute || write(text),
    send: (data) => mute || write(formatEvent(data)),
    end: () => writer.end(),
    get open() {
      return writer.open;
    },
  });
  const marks = context.relay && new Marks(write);
  const sink: AnswersSink = {
    news(choice, news) {
      mute = news.old === true;
      teller.news(choice, news);
      mute = false;
      if (!news.old) marks?.told(choice, news.tokens, news.mark);
      flush();
    },
    ended(choice, stats, old) {
      mute = old === true;
      teller.ended(choice, stats);
      mute = false;
      marks?.ended(choice, stats);
      flush();
    },
    over() {
      teller.over?.();
      marks?.over();
      flush();
      writer.end();
    },
    failed(error) {
      if (teller.failed) teller.failed(error);
      else write(formatEvent(errorIn(options.dialect, error, context.correlationId)));
      marks?.failed(error);
      flush();
      writer.end();
    },
  };
  try {
    // What is told of the answers waits until all are accepted, and this comes before it.
    cancel = await startAnswers(worker, asked, {
      sink,
      context,
      begin(all) {
        teller.begin?.(all[0]);
        mute = false;
        // Who relays it hears of it with the first token: nobody is woken while the prompt is read.
        marks?.accepted(all);
      },
    });
  } catch (error) {
    writer.end();
    throw error;
  }
  return eventResponse(stream, { "X-Request-Id": asked.requestId, ...options.headers });
}

/** A whole answer. */
export interface WholeAnswer {
  message: WholeMessage;
  tokens: TokenEvent[];
  stats: InferenceStats;
}

/** All answers once they have ended. Throws what went wrong. */
export async function wholeAnswers(
  what: { worker: Worker; asked: AskedAnswers; context: AnswerContext },
): Promise<WholeAnswer[]> {
  const { worker, asked, context } = what;
  const marks = context.relay && new Marks(context.relay.write);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // Rejects before anybody waits when an answer fails at once.
  promise.catch(() => {});
  const answers = asked.works.map(() => ({ builder: new MessageBuilder(), tokens: [] as TokenEvent[] }));
  const stats: InferenceStats[] = [];
  const cancel = await startAnswers(worker, asked, {
    context,
    sink: {
      news(choice, { deltas, tokens, mark, old }) {
        answers[choice].builder.add(deltas);
        if (old) return;
        answers[choice].tokens.push(...tokens);
        marks?.told(choice, tokens, mark);
      },
      ended(choice, figures) {
        stats[choice] = figures;
        marks?.ended(choice, figures);
      },
      over() {
        marks?.over();
        resolve();
      },
      failed: reject,
    },
    begin: (all) => marks?.accepted(all),
  });
  const { signal } = context.request;
  signal.addEventListener("abort", cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    await promise;
  } finally {
    signal.removeEventListener("abort", cancel);
  }
  return answers.map(({ builder, tokens }, i) => ({ message: builder.message, tokens, stats: stats[i] }));
}

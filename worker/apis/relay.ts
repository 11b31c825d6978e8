/**
 * `POST /v1/relay`: another route's answer, told so that whoever relays it can go on with it at another worker (see
 * `protocol/relay_schemas.ts`).
 */
import { checkedBody } from "../../daemon/body.ts";
import { eventResponse, type Handler, type RequestContext } from "../../daemon/serve.ts";
import { RbeeError, toRbeeError } from "../../protocol/errors.ts";
import {
  type BegunAnswer,
  CACHE_SCOPE_HEADER,
  CacheScope,
  COMMON_TEXT_HEADER,
  CommonText,
  formatMark,
  type Mark,
  RelayRequest,
} from "../../protocol/relay_schemas.ts";
import { eventStream, type EventWriter } from "../../protocol/sse.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { NativeMark } from "../native/addon.ts";
import type { Accepted } from "../work.ts";

/** How one answer is relayed. */
export interface Relay {
  /** Part of the ids in the answer. */
  readonly id: string;
  readonly startedUnix: number;
  /** See `CACHE_SCOPE_HEADER` in `relay_schemas.ts`. */
  readonly cacheScope?: string;
  /** See `COMMON_TEXT_HEADER` there. */
  readonly common?: CommonText;
  /** What was generated elsewhere, by choice. */
  readonly begun?: readonly BegunAnswer[];
  /** Takes marks of an answer that is told as a whole; one that is streamed has them in its stream. */
  readonly write: (text: string) => void;
}

/** A request that may be relayed. */
export interface AnswerContext extends RequestContext {
  /** Absent: it comes from whom the answer is for. */
  readonly relay?: Relay;
}

/** Answers a route that can be relayed. */
export type AnswerHandler = (context: AnswerContext) => Promise<Response>;

/** Tells how far the answers of one request have come. */
export class Marks {
  readonly #write: (text: string) => void;
  readonly #ids: number[][] = [];
  readonly #stats: InferenceStats[] = [];
  #several = false;

  /** `write` takes them in between the events. */
  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /** All are taken. */
  accepted(answers: readonly Accepted[]): void {
    const [{ promptTokens, blocks }] = answers;
    this.#several = answers.length > 1;
    this.#mark({
      accepted: {
        prompt_tokens: promptTokens,
        seeds: answers.map(({ seed }) => seed),
        blocks: [...blocks],
      },
    });
  }

  /** Tokens were told, and with them the answer stood there. */
  told(choice: number, tokens: readonly TokenEvent[], mark: NativeMark | undefined): void {
    const ids = this.#ids[choice] ??= [];
    for (const { id } of tokens) ids.push(id);
    if (mark === undefined) return;
    this.#ids[choice] = [];
    const logprobs = mark.held.some(({ logprob }) => logprob !== undefined) ? mark.held : undefined;
    this.#mark({ choice, ids, held: mark.ids, logprobs, draws: mark.draws });
  }

  /** One came to its end. */
  ended(choice: number, stats: InferenceStats): void {
    this.#stats[choice] = stats;
    // Of a single one that is told with the end of all.
    if (this.#several) this.#mark({ choice, ended: stats });
  }

  /** All did. */
  over(): void {
    this.#mark({ over: this.#stats });
  }

  /** They failed. */
  failed(error: RbeeError): void {
    this.#mark({ failed: error.code });
  }

  #mark(mark: Mark): void {
    this.#write(formatMark(mark));
  }
}

/** Answers in the name of the others. */
export function relay(handlers: Readonly<Record<RelayRequest["path"], AnswerHandler>>): Handler {
  return async (context) => {
    const asked = await context.body(RelayRequest);
    const handler = handlers[asked.path];
    const { id, begun, started_unix: startedUnix } = asked;
    const scope = context.request.headers.get(CACHE_SCOPE_HEADER);
    const cacheScope = scope === null ? undefined : checkedBody(scope, CacheScope);
    const text = context.request.headers.get(COMMON_TEXT_HEADER);
    const common = text === null ? undefined : checkedBody(text, CommonText);
    const how = { id, startedUnix, begun, cacheScope, common };
    const inner = {
      ...context,
      body: <T>(schema: Parameters<typeof checkedBody<T>>[1]) =>
        Promise.resolve(checkedBody(asked.request, schema)),
    };
    if (asked.request.stream === true || (asked.request.stream === undefined && streams(asked.path))) {
      return await handler({ ...inner, relay: { ...how, write: () => {} } });
    }
    return await relayWhole((write) => handler({ ...inner, relay: { ...how, write } }), context);
  };
}

/** Our own route streams unless it is told not to; those of others do when they are told to. */
function streams(path: RelayRequest["path"]): boolean {
  return path === "/v1/inference";
}

/** An answer that is told as a whole, with its marks before it. Throws what is wrong before the first of them. */
async function relayWhole(
  answer: (write: (text: string) => void) => Promise<Response>,
  context: RequestContext,
): Promise<Response> {
  const taken = Promise.withResolvers<void>();
  let writer!: EventWriter;
  // The handler watches the request itself for who goes away.
  const stream = eventStream((opened) => writer = opened);
  const answering = answer((text) => {
    writer.write(text);
    taken.resolve();
  });
  try {
    await Promise.race([taken.promise, answering]);
  } catch (error) {
    writer.end();
    throw error;
  }
  answering.then(async (response) => writer.send(await response.json())).catch((error) => {
    const known = toRbeeError(error);
    context.log.error("relayed answer failed", { error: known });
    writer.write(formatMark({ failed: known.code }));
    writer.send({ error: known.toBody(context.correlationId) });
  }).finally(() => writer.end());
  return eventResponse(stream);
}

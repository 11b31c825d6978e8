/** The other side of `POST /v1/relay`: reads an answer so that it can be gone on with elsewhere. */
import { type BegunAnswer, type Mark, MARK_PREFIX, parseMark } from "./relay_schemas.ts";
import { EventChunks, type ReadEventsOptions, StreamCutError } from "./sse.ts";
import type { InferenceStats } from "./worker_schemas.ts";

/** A piece of a relayed answer. */
export interface RelayPiece {
  /** Events as they are for the client. */
  text: string;
  /** The marks behind them, in order; none of the last piece, which is what came after `over` or `failed`. */
  marks: Mark[];
}

/**
 * Reads pieces up to the end of the answer. What came after the last mark of an answer that is not over is dropped.
 *
 * @throws {StreamCutError} when the connection is lost before the answer was over.
 * @throws {SyntaxError} when a mark is no JSON; `ZodError` when it is none of ours.
 * The signal's reason when that aborts.
 */
export async function* readRelay(
  body: ReadableStream<Uint8Array>,
  options: ReadEventsOptions = {},
): AsyncGenerator<RelayPiece, void> {
  const decoder = new TextDecoder();
  const chunks = new EventChunks(body, options);
  let ended = false;
  let pending = "";
  try {
    for (;;) {
      const bytes = await chunks.read();
      if (bytes === undefined) break;
      const marks: Mark[] = [];
      let text = "";
      for (const block of blocksIn(decoder.decode(bytes))) {
        if (!block.startsWith(":")) {
          pending += block;
        } else if (block.startsWith(MARK_PREFIX)) {
          const mark = parseMark(block.slice(MARK_PREFIX.length));
          marks.push(mark);
          text += pending;
          pending = "";
          ended ||= "over" in mark || "failed" in mark;
        }
      }
      if (marks.length > 0) yield { text, marks };
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    // How `fetch` tells of a lost connection.
    if (!(error instanceof TypeError)) throw error;
    if (!ended) throw new StreamCutError({ cause: error });
  } finally {
    chunks.cancel().catch(() => {});
  }
  options.signal?.throwIfAborted();
  if (!ended) throw new StreamCutError();
  yield { text: pending, marks: [] };
}

/** Each with the blank line that ends it. */
function* blocksIn(text: string): Generator<string> {
  for (let start = 0; start < text.length;) {
    const end = text.indexOf("\n\n", start);
    const next = end < 0 ? text.length : end + 2;
    yield text.slice(start, next);
    start = next;
  }
}

/** How far a relayed answer has come, over all workers that had a part in it. */
export class RelayProgress {
  #answers: BegunAnswer[] | undefined;
  #stats: InferenceStats[] | undefined;
  #failed: string | undefined;
  #promptTokens = 0;
  #blocks: number[] = [];
  #told = 0;

  /** Nothing was passed on yet; or so much, by one who kept count and is gone. */
  constructor(kept?: { answers: BegunAnswer[]; promptTokens: number; told: number }) {
    this.#answers = kept?.answers;
    this.#promptTokens = kept?.promptTokens ?? 0;
    this.#told = kept?.told ?? 0;
  }

  /** Takes a mark of what has been passed on. */
  add(mark: Mark): void {
    if ("accepted" in mark) {
      const { seeds, blocks, prompt_tokens } = mark.accepted;
      this.#promptTokens = prompt_tokens;
      this.#blocks = blocks;
      this.#answers ??= seeds.map((seed) => ({ seed, generated: [], held: [], draws: 0 }));
    } else if ("over" in mark) {
      this.#stats = mark.over;
    } else if ("failed" in mark) {
      this.#failed = mark.failed;
    } else if ("ended" in mark) {
      this.#answer(mark.choice).stats = mark.ended;
    } else {
      this.#tell(mark);
    }
  }

  /** What another worker needs to go on; undefined: nothing was passed on yet. */
  get begun(): BegunAnswer[] | undefined {
    return this.#answers;
  }

  /** Set once all answers have ended. */
  get stats(): InferenceStats[] | undefined {
    return this.#stats;
  }

  /** The code with which they failed, if they did. */
  get failed(): string | undefined {
    return this.#failed;
  }

  /** Of the prompt; 0 while it is not known. */
  get promptTokens(): number {
    return this.#promptTokens;
  }

  /** Hashes of the prompt's beginnings. */
  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** Tokens that were passed on. */
  get told(): number {
    return this.#told;
  }

  /** What the last worker was about to say is void: another goes on from what was passed on. */
  restart(): void {
    this.#stats = undefined;
    this.#failed = undefined;
  }

  #answer(choice: number): BegunAnswer {
    const answer = this.#answers?.[choice];
    if (answer !== undefined) return answer;
    throw new SyntaxError(`A mark is about an answer ${choice} that nobody began.`);
  }

  #tell(mark: Extract<Mark, { draws: number }>): void {
    const answer = this.#answer(mark.choice);
    // Held ones stand at the end, and these are the next to be told, or still held.
    answer.generated.length -= answer.held.length;
    answer.generated.push(...mark.ids, ...mark.held);
    answer.held = mark.logprobs ?? mark.held.map(() => ({}));
    answer.draws = mark.draws;
    this.#told += mark.ids.length;
  }
}

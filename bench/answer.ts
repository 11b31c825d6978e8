/** One streamed answer, timed. The stream is only kept while it runs; it is read afterwards, when no one is measured. */
import type { InferenceServer, Question, ServerEvent, Summary } from "./server.ts";

/** A finished answer. Points in time are `performance.now()`. */
export interface TimedAnswer {
  /** The request was sent. */
  startMs: number;
  /** The first token's event arrived. */
  firstMs: number;
  /** The stream ended. */
  endMs: number;
  /** Parses what was kept. */
  summary(): Summary;
}

const LF = 0x0a;
/** Comment lines, which keep a connection alive, begin otherwise. */
const EVENT_START = "d".charCodeAt(0);

/**
 * Asks and waits for the end. `onFirst` is called when the first token arrives.
 *
 * @throws {Error} when the server refuses.
 */
export async function timedAnswer(
  server: InferenceServer,
  question: Question,
  onFirst: () => void = () => {},
): Promise<TimedAnswer> {
  const startMs = performance.now();
  const response = await fetch(server.request(question));
  if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).slice(0, 160)}`);
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let firstMs: number | undefined;
  for await (const chunk of response.body!) {
    chunks.push(chunk);
    if (firstMs === undefined && hasEvent(chunk)) {
      firstMs = performance.now();
      onFirst();
    }
  }
  const endMs = performance.now();
  return {
    startMs,
    firstMs: firstMs ?? endMs,
    endMs,
    summary: () => server.summary(events(chunks)),
  };
}

/** The time from the request to the first token, in ms. Answers end before this returns. */
export async function firstTokenMs(server: InferenceServer, prompt: string): Promise<number> {
  const { startMs, firstMs } = await timedAnswer(server, { prompt, maxTokens: 2 });
  return firstMs - startMs;
}

/** Tokens of all answers together over the time from the first request to the last end. */
export async function tokensPerSecond(
  server: InferenceServer,
  questions: readonly Question[],
): Promise<number> {
  const startMs = performance.now();
  const answers = await Promise.all(questions.map((question) => timedAnswer(server, question)));
  const seconds = (Math.max(...answers.map(({ endMs }) => endMs)) - startMs) / 1000;
  let sum = 0;
  for (const [i, answer] of answers.entries()) {
    const { tokens } = answer.summary();
    const wanted = questions[i].maxTokens;
    if (tokens !== wanted) throw new Error(`The answer ended after ${tokens} of ${wanted} tokens.`);
    sum += tokens;
  }
  return sum / seconds;
}

function hasEvent(chunk: Uint8Array): boolean {
  return chunk[0] === EVENT_START ||
    chunk.some((byte, i) => byte === EVENT_START && chunk[i - 1] === LF);
}

function events(chunks: Uint8Array<ArrayBuffer>[]): ServerEvent[] {
  const text = new TextDecoder();
  return (chunks.map((chunk) => text.decode(chunk, { stream: true })).join("") + text.decode())
    .split("\n").filter((line) => line.startsWith("data: {")).map((line) => JSON.parse(line.slice(6)));
}

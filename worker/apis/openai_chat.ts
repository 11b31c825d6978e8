/** `POST /v1/chat/completions`. */
import type { EventWriter } from "../../protocol/sse.ts";
import { ChatCompletionRequest } from "../../protocol/openai_schemas.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { Engine } from "../engine.ts";
import type { Work } from "../work.ts";
import type { Worker } from "../worker.ts";
import { type AnswerTeller, streamedAnswers, type WholeAnswer, wholeAnswers } from "./answer_responses.ts";
import type { Delta, WholeCall } from "./chat_reader.ts";
import { chatRequestOf, schemaOf } from "./conversation.ts";
import {
  chatLogprobs,
  finishReason,
  originOf,
  SYSTEM_FINGERPRINT,
  timingsOf,
  usageOf,
} from "./openai_parts.ts";
import type { AnswerHandler } from "./relay.ts";
import { generationOptionsOf, maxTokensOf, nthChoice } from "./sampling.ts";

/** Answers in the name of one worker. */
export function chatCompletions(worker: Worker): AnswerHandler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(ChatCompletionRequest);
    const origin = originOf(context, "chatcmpl-");
    const requestId = origin.id;
    const works = await chatWorks(request, engine, context.request.signal);
    const what = { worker, context, asked: { works, requestId } };
    const head = headOf(worker, origin);
    if (request.stream) {
      const open = (writer: EventWriter) => new ChatStream(writer, { head, request });
      return await streamedAnswers(what, open, { dialect: "openai" });
    }
    const answers = await wholeAnswers(what);
    return Response.json({
      ...head("chat.completion"),
      choices: answers.map((answer, index) =>
        choiceOf(answer, { index, logprobs: request.logprobs === true })
      ),
      usage: usageOf(answers.map(({ stats }) => stats)),
      timings: timingsOf(answers.map(({ stats }) => stats)),
    }, { headers: { "X-Request-Id": requestId } });
  };
}

/** What the engine is asked for a chat request, once for each choice. */
export async function chatWorks(
  request: ChatCompletionRequest,
  engine: Engine,
  signal: AbortSignal,
): Promise<Work[]> {
  const options = {
    ...await generationOptionsOf({ ...request, json_schema: schemaOf(request) }, engine, signal),
    logprobs: request.logprobs ? request.top_logprobs ?? 0 : undefined,
  };
  const chat = chatRequestOf(request);
  const max_tokens = maxTokensOf(request.max_completion_tokens ?? request.max_tokens, engine);
  return Array.from({ length: request.n ?? 1 }, (_, i) => ({ ...nthChoice(options, i), chat, max_tokens }));
}

type Head = (object: string) => Record<string, unknown>;

function headOf(worker: Worker, origin: ReturnType<typeof originOf>): Head {
  return (object) => ({
    id: origin.id,
    object,
    created: origin.createdUnix,
    model: worker.modelRef,
    system_fingerprint: SYSTEM_FINGERPRINT,
  });
}

function choiceOf(answer: WholeAnswer, how: { index: number; logprobs: boolean }) {
  const { message: { content, reasoning, calls }, tokens, stats } = answer;
  return {
    index: how.index,
    message: {
      role: "assistant",
      content: content === "" && calls.length > 0 ? null : content,
      ...reasoning === "" ? {} : { reasoning_content: reasoning },
      ...calls.length === 0 ? {} : { tool_calls: calls.map(toolCall) },
    },
    logprobs: how.logprobs ? chatLogprobs(tokens) : null,
    finish_reason: finishReason(stats, calls.length > 0),
  };
}

/** A call in OpenAI's shape. */
export function toolCall({ id, name, arguments: args }: WholeCall) {
  return { id, type: "function", function: { name, arguments: args } };
}

/** One chunk for each piece of text; those of one batch go out together. */
class ChatStream implements AnswerTeller {
  readonly #writer: EventWriter;
  readonly #request: ChatCompletionRequest;
  readonly #chunk: Record<string, unknown>;
  /** Everything of a chunk before its delta, by choice: most of a stream is made of it. */
  readonly #prefixes: string[];
  readonly #calls = new Set<number>();
  readonly #stats: InferenceStats[] = [];
  #unsent: TokenEvent[][] = [];

  constructor(writer: EventWriter, what: { head: Head; request: ChatCompletionRequest }) {
    this.#writer = writer;
    this.#request = what.request;
    this.#chunk = what.head("chat.completion.chunk");
    const start = JSON.stringify(this.#chunk).slice(0, -1);
    this.#prefixes = Array.from(
      { length: what.request.n ?? 1 },
      (_, index) => `data: ${start},"choices":[{"index":${index},"finish_reason":null,"delta":`,
    );
  }

  begin(): void {
    const role = JSON.stringify({ role: "assistant", content: null });
    this.#writer.write(this.#prefixes.map((prefix) => `${prefix}${role}}]}\n\n`).join(""));
  }

  news(choice: number, { deltas, tokens }: { deltas: Delta[]; tokens: TokenEvent[] }): void {
    if (deltas.some(({ tool }) => tool !== undefined)) this.#calls.add(choice);
    const prefix = this.#prefixes[choice];
    if (!this.#request.logprobs) {
      return this.#writer.write(
        deltas.map((delta) => `${prefix}${JSON.stringify(wire(delta))}}]}\n\n`).join(""),
      );
    }
    // A token whose text is not certain yet is told with the text.
    const told = this.#unsent[choice] = [...this.#unsent[choice] ?? [], ...tokens];
    if (deltas.length === 0) return;
    this.#unsent[choice] = [];
    const groups = tokensOf(told, deltas.length);
    this.#writer.write(
      deltas.map((delta, i) =>
        `${prefix}${JSON.stringify(wire(delta))},"logprobs":${JSON.stringify(chatLogprobs(groups[i]))}}]}\n\n`
      ).join(""),
    );
  }

  ended(choice: number, stats: InferenceStats): void {
    this.#stats[choice] = stats;
    const finish_reason = finishReason(stats, this.#calls.has(choice));
    this.#writer.send({ ...this.#chunk, choices: [{ index: choice, delta: {}, finish_reason }] });
  }

  over(): void {
    if (!this.#request.stream_options?.include_usage) return;
    this.#writer.send({
      ...this.#chunk,
      choices: [],
      usage: usageOf(this.#stats),
      timings: timingsOf(this.#stats),
    });
  }
}

/** Tokens to deltas: one each where every text is a delta of its own, else all to the first. */
function tokensOf(tokens: TokenEvent[], deltas: number): TokenEvent[][] {
  const groups: TokenEvent[][] = [];
  let open = true;
  for (const token of tokens) {
    if (open) groups.push([]);
    groups[groups.length - 1].push(token);
    open = token.token !== "";
  }
  return groups.length === deltas ? groups : Array.from({ length: deltas }, (_, i) => i === 0 ? tokens : []);
}

function wire({ reasoning, content, tool }: Delta) {
  if (tool === undefined) {
    return reasoning === undefined ? { content } : { reasoning_content: reasoning, content };
  }
  const { index, id, name, arguments: args } = tool;
  const call = id === undefined
    ? { index, function: { arguments: args } }
    : { index, id, type: "function", function: { name, arguments: args } };
  return { tool_calls: [call] };
}

/** Ollama's `POST /api/chat`, `/api/generate`. */
import type { Handler, RequestContext } from "../../daemon/serve.ts";
import {
  OllamaChatRequest,
  OllamaGenerateRequest,
  type OllamaMessage,
  type OllamaOptions,
} from "../../protocol/ollama_schemas.ts";
import type { ChatCompletionRequest } from "../../protocol/openai_schemas.ts";
import type { EventWriter } from "../../protocol/sse.ts";
import type { InferenceStats } from "../../protocol/worker_schemas.ts";
import type { Engine } from "../engine.ts";
import type { Work } from "../work.ts";
import type { Worker } from "../worker.ts";
import { streamedAnswers, wholeAnswers } from "./answer_responses.ts";
import { argumentsIn, type Delta, MessageBuilder, type WholeMessage } from "./chat_reader.ts";
import { chatWorks } from "./openai_chat.ts";
import { originOf } from "./openai_parts.ts";
import { generationOptionsOf, maxTokensOf } from "./sampling.ts";

const NANOSECONDS_PER_MS = 1e6;
const NDJSON = { "Content-Type": "application/x-ndjson" };

/** What of an answer one line tells. */
type Tell = (part: Partial<WholeMessage>) => Record<string, unknown>;

/** Chats in the name of one worker. */
export function ollamaChat(worker: Worker): Handler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(OllamaChatRequest);
    const tell: Tell = ({ content = "", reasoning, calls }) => ({
      message: {
        role: "assistant",
        content,
        ...reasoning ? { thinking: reasoning } : {},
        ...calls?.length ? { tool_calls: calls.map(callOf) } : {},
      },
    });
    if (request.messages.length === 0) return loaded(worker, tell);
    const works = await chatWorks(
      { ...asChat(request), messages: request.messages.map(messageOf), tools: request.tools },
      engine,
      context.request.signal,
    );
    return await answered({ worker, context, works }, { stream: request.stream ?? true, tell });
  };
}

/** Continues text in the name of one worker: through its chat template, unless `raw`. */
export function ollamaGenerate(worker: Worker): Handler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(OllamaGenerateRequest);
    const tell: Tell = ({ content = "", reasoning }) => ({
      response: content,
      ...reasoning ? { thinking: reasoning } : {},
    });
    if (request.prompt === "") return loaded(worker, tell);
    const system = request.system ? [{ role: "system", content: request.system }] : [];
    const { signal } = context.request;
    const works = request.raw ? [await rawWork(request, engine, signal)] : await chatWorks(
      { ...asChat(request), messages: [...system, { role: "user", content: request.prompt }] },
      engine,
      signal,
    );
    return await answered({ worker, context, works }, { stream: request.stream ?? true, tell });
  };
}

async function rawWork(
  request: OllamaGenerateRequest,
  engine: Engine,
  signal: AbortSignal,
): Promise<Work> {
  const { response_format: _, ...sampling } = asChat(request);
  const json_schema = schemaOf(request.format);
  return {
    ...await generationOptionsOf({ ...sampling, json_schema }, engine, signal),
    prompt: request.prompt,
    max_tokens: maxTokensOf(sampling.max_tokens, engine),
  };
}

/** Everything of a chat request but what is said. */
function asChat(
  request: Pick<OllamaChatRequest, "options" | "format" | "think">,
): Omit<ChatCompletionRequest, "messages"> {
  const { num_predict, ...options }: OllamaOptions = request.options ?? {};
  const { think } = request;
  const schema = schemaOf(request.format);
  return {
    ...options,
    max_tokens: num_predict === null || num_predict === undefined || num_predict < 0
      ? undefined
      : num_predict,
    response_format: schema === undefined ? undefined : { type: "json_object", schema },
    chat_template_kwargs: typeof think === "boolean" ? { enable_thinking: think } : undefined,
    reasoning_effort: typeof think === "string" ? think : undefined,
  };
}

function schemaOf(format: OllamaChatRequest["format"]): Record<string, unknown> | undefined {
  return typeof format === "object" && format !== null
    ? format
    : format === "json"
    ? { type: "object" }
    : undefined;
}

function messageOf(message: OllamaMessage): ChatCompletionRequest["messages"][number] {
  const { role, content, thinking, tool_calls, tool_name, tool_call_id } = message;
  return {
    role,
    content,
    reasoning_content: thinking,
    tool_calls: tool_calls?.map((call) => ({
      type: "function",
      function: { name: call.function.name, arguments: JSON.stringify(call.function.arguments) },
    })),
    name: tool_name,
    tool_call_id,
  };
}

function callOf(call: WholeMessage["calls"][number]) {
  return { id: call.id, function: { name: call.name, arguments: argumentsIn(call.arguments) } };
}

/** The answer to a request that asks for nothing but that the model be loaded. */
function loaded(worker: Worker, tell: Tell): Response {
  return Response.json({ ...headOf(worker), ...tell({}), done: true, done_reason: "load" });
}

async function answered(
  what: { worker: Worker; context: RequestContext; works: Work[] },
  how: { stream: boolean; tell: Tell },
): Promise<Response> {
  const { worker, context, works } = what;
  const { tell } = how;
  const asked = { works, requestId: originOf(context, "ollama-").id };
  const all = { worker, context, asked };
  if (!how.stream) {
    const [{ message, stats }] = await wholeAnswers(all);
    return Response.json({ ...headOf(worker), ...tell(message), ...figuresOf(stats) }, {
      headers: { "X-Request-Id": asked.requestId },
    });
  }
  const open = (writer: EventWriter) => {
    const line = (content: Record<string, unknown>) =>
      `${JSON.stringify({ ...headOf(worker), ...content })}\n`;
    const calls = new MessageBuilder();
    return {
      news(_choice: number, { deltas }: { deltas: Delta[] }) {
        // A call is told once it is whole, as these clients expect.
        calls.add(deltas.filter(({ tool }) => tool !== undefined));
        writer.write(
          deltas.filter(({ tool }) => tool === undefined)
            .map((delta) => line({ ...tell(delta), done: false })).join(""),
        );
      },
      ended(_choice: number, stats: InferenceStats) {
        const whole = calls.message.calls;
        if (whole.length > 0) writer.write(line({ ...tell({ calls: whole }), done: false }));
        writer.write(line({ ...tell({}), ...figuresOf(stats) }));
      },
      failed: (error: Error) => writer.write(`${JSON.stringify({ error: error.message })}\n`),
    };
  };
  return await streamedAnswers(all, open, {
    dialect: "ollama",
    texts: { end: "", keepAlive: "" },
    headers: NDJSON,
  });
}

function headOf(worker: Worker) {
  return { model: worker.modelRef, created_at: new Date().toISOString() };
}

function figuresOf(stats: InferenceStats) {
  const ns = (ms: number) => Math.round(ms * NANOSECONDS_PER_MS);
  const { stop_reason: reason } = stats;
  return {
    done: true,
    done_reason: reason === "length" || reason === "deadline" ? "length" : "stop",
    total_duration: ns(stats.duration_ms),
    load_duration: 0,
    prompt_eval_count: stats.prompt_tokens,
    prompt_eval_duration: ns(stats.time_to_first_token_ms),
    eval_count: stats.total_tokens,
    eval_duration: ns(Math.max(0, stats.duration_ms - stats.time_to_first_token_ms)),
  };
}

/** `POST /v1/completions`. */
import { CompletionRequest } from "../../protocol/openai_schemas.ts";
import type { EventWriter } from "../../protocol/sse.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { Engine } from "../engine.ts";
import type { Work } from "../work.ts";
import type { Worker } from "../worker.ts";
import { requireAnswersWithinLimit } from "./answers.ts";
import { streamedAnswers, wholeAnswers } from "./answer_responses.ts";
import {
  completionLogprobs,
  finishReason,
  originOf,
  SYSTEM_FINGERPRINT,
  timingsOf,
  usageOf,
} from "./openai_parts.ts";
import { echoOf, idsOf, inOrder, promptsOf } from "./prompts.ts";
import type { AnswerHandler } from "./relay.ts";
import { generationOptionsOf, maxTokensOf, nthChoice } from "./sampling.ts";

/** Tokens of these answers when nobody says how many: OpenAI's own number for this older route. */
const DEFAULT_TOKENS = 16;

/** Answers in the name of one worker. */
export function completions(worker: Worker): AnswerHandler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(CompletionRequest);
    const { id: requestId, createdUnix } = originOf(context, "cmpl-");
    const prompts = promptsOf(request.prompt);
    requireAnswersWithinLimit({ prompts: prompts.length, n: request.n });
    const { signal } = context.request;
    const echoes = request.echo ? await inOrder(prompts, (prompt) => echoOf(prompt, engine, signal)) : [];
    const perPrompt = request.n ?? 1;
    const echo = (choice: number) => echoes[Math.floor(choice / perPrompt)] ?? "";
    const works = await worksOf(request, engine, signal);
    const what = { worker, context, asked: { works, requestId } };
    const head = {
      id: requestId,
      object: "text_completion",
      created: createdUnix,
      model: worker.modelRef,
      system_fingerprint: SYSTEM_FINGERPRINT,
    };
    const withLogprobs = typeof request.logprobs === "number";
    const logprobsOf = (tokens: readonly TokenEvent[], offset: number) =>
      withLogprobs ? completionLogprobs(tokens, offset) : null;
    if (!request.stream) {
      const answers = await wholeAnswers(what);
      return Response.json({
        ...head,
        choices: answers.map(({ message, tokens, stats }, index) => ({
          index,
          text: echo(index) + message.content,
          logprobs: logprobsOf(tokens, echo(index).length),
          finish_reason: finishReason(stats, false),
        })),
        usage: usageOf(answers.map(({ stats }) => stats), prompts.length),
        timings: timingsOf(answers.map(({ stats }) => stats)),
      }, { headers: { "X-Request-Id": requestId } });
    }
    const open = (writer: EventWriter) => {
      const stats: InferenceStats[] = [];
      const offsets: number[] = [];
      const send = (index: number, what: { text: string; tokens?: TokenEvent[]; finish_reason?: string }) => {
        const offset = offsets[index] ?? 0;
        offsets[index] = offset + what.text.length;
        const logprobs = logprobsOf(what.tokens ?? [], offset);
        const choice = { index, text: what.text, logprobs, finish_reason: what.finish_reason ?? null };
        return `data: ${JSON.stringify({ ...head, choices: [choice] })}\n\n`;
      };
      return {
        begin() {
          if (!request.echo) return;
          writer.write(what.asked.works.map((_, i) => send(i, { text: echo(i) })).join(""));
        },
        news(index: number, { tokens }: { tokens: TokenEvent[] }) {
          const told = withLogprobs ? tokens : tokens.filter(({ token }) => token !== "");
          writer.write(told.map((token) => send(index, { text: token.token, tokens: [token] })).join(""));
        },
        ended(index: number, figures: InferenceStats) {
          stats[index] = figures;
          writer.write(send(index, { text: "", finish_reason: finishReason(figures, false) }));
        },
        over() {
          if (!request.stream_options?.include_usage) return;
          writer.send({ ...head, choices: [], usage: usageOf(stats, prompts.length) });
        },
      };
    };
    return await streamedAnswers(what, open, { dialect: "openai" });
  };
}

async function worksOf(request: CompletionRequest, engine: Engine, signal: AbortSignal): Promise<Work[]> {
  const options = {
    ...await generationOptionsOf(request, engine, signal),
    logprobs: request.logprobs ?? undefined,
  };
  const max_tokens = maxTokensOf(request.max_tokens ?? DEFAULT_TOKENS, engine);
  const asked = await inOrder(
    promptsOf(request.prompt),
    async (prompt) =>
      typeof prompt === "string" ? { prompt } : { tokens: await idsOf(prompt, engine, signal) },
  );
  return asked.flatMap((prompt) =>
    Array.from({ length: request.n ?? 1 }, (_, i) => ({ ...nthChoice(options, i), ...prompt, max_tokens }))
  );
}

/** What clients of OpenAI and Anthropic call: each request goes to a worker that has its model, or will have it. */
import * as z from "zod";
import { checkedBody } from "../../daemon/body.ts";
import { deadlineOf } from "../../daemon/deadline.ts";
import { eventResponse, type Handler, type RequestContext, type Route } from "../../daemon/serve.ts";
import { CountTokensRequest, MessagesRequest } from "../../protocol/anthropic_schemas.ts";
import { type Dialect, errorIn } from "../../protocol/dialects.ts";
import { ErrorEnvelopeSchema, errorFromBody, RbeeError, toRbeeError } from "../../protocol/errors.ts";
import {
  ChatCompletionRequest,
  CompletionRequest,
  DetokenizeRequest,
  EmbeddingsRequest,
  RerankRequest,
  TokenizeRequest,
} from "../../protocol/openai_schemas.ts";
import type { RelayedPath } from "../../protocol/relay_schemas.ts";
import { ResponsesRequest } from "../../protocol/responses_schemas.ts";
import type { Caller } from "../../protocol/rights.ts";
import { FOREIGN_ROUTES, FRONT_DOOR_ROUTES, type RouteSpec } from "../../protocol/routes.ts";
import { eventStream, type EventStreamOptions, type EventWriter, STREAM_TEXTS } from "../../protocol/sse.ts";
import { promptTextOf } from "../cluster/prefixes.ts";
import { QUIET_WAIT_MS } from "../limits.ts";
import type { QueenParts } from "../parts.ts";
import { admit } from "./admission.ts";
import { type AnswerJob, type AnswerSink, failureOf } from "./answers.ts";
import { askedIn, type Charge, readIn, readOf } from "./charges.ts";
import type { WaitNews } from "./lease.ts";
import { expectedTokens, modelOf, modelsFor, promptTokensOf } from "./requests.ts";

const PREFIX = "data: ";
const Body = z.record(z.string(), z.unknown());

/** Routes whose answers can be gone on with elsewhere. */
const RELAYED: {
  spec: RouteSpec;
  path: RelayedPath;
  schema: z.ZodType;
  /** Absent: as our own. */
  texts?: EventStreamOptions["texts"];
}[] = [
  {
    spec: FRONT_DOOR_ROUTES.chatCompletions,
    path: FOREIGN_ROUTES.chatCompletions.path,
    schema: ChatCompletionRequest,
  },
  {
    spec: FRONT_DOOR_ROUTES.completions,
    path: FOREIGN_ROUTES.completions.path,
    schema: CompletionRequest,
  },
  {
    spec: FRONT_DOOR_ROUTES.responses,
    path: FOREIGN_ROUTES.responses.path,
    schema: ResponsesRequest,
    texts: STREAM_TEXTS.lastEvent,
  },
  {
    spec: FRONT_DOOR_ROUTES.messages,
    path: FOREIGN_ROUTES.messages.path,
    schema: MessagesRequest,
    texts: STREAM_TEXTS.anthropic,
  },
];

/** Routes of these that are answered at once, and whether that takes a slot. */
const PASSED_ON: { spec: RouteSpec; schema: z.ZodType; slot: boolean }[] = [
  { spec: FRONT_DOOR_ROUTES.embeddings, schema: EmbeddingsRequest, slot: true },
  { spec: FRONT_DOOR_ROUTES.tokenEmbeddings, schema: EmbeddingsRequest, slot: true },
  { spec: FRONT_DOOR_ROUTES.rerank, schema: RerankRequest, slot: true },
  { spec: FRONT_DOOR_ROUTES.tokenize, schema: TokenizeRequest, slot: false },
  { spec: FRONT_DOOR_ROUTES.detokenize, schema: DetokenizeRequest, slot: false },
  { spec: FRONT_DOOR_ROUTES.applyTemplate, schema: ChatCompletionRequest, slot: false },
  { spec: FRONT_DOOR_ROUTES.countTokens, schema: CountTokensRequest, slot: false },
];

/** All of them. */
export function frontDoorRoutes(parts: QueenParts): Route[] {
  return [
    { spec: FRONT_DOOR_ROUTES.models, handle: ({ caller }) => Response.json(modelList(parts, caller)) },
    {
      spec: FRONT_DOOR_ROUTES.model,
      handle: ({ params, caller }) => Response.json(oneModel(parts, { id: params.id, caller })),
    },
    ...RELAYED.map(({ spec, path, schema, texts }): Route => ({
      spec,
      handle: async (context) => {
        const paid = await paidJobOf(parts, { path, request: await bodyOf(context, schema), context });
        const dialect = spec.dialect ?? "rbee";
        return paid.job.stream
          ? await streamed(parts, { ...paid, dialect, texts, context })
          : await whole(parts, { ...paid, context });
      },
    })),
    ...PASSED_ON.map((route): Route => ({ spec: route.spec, handle: passOn(parts, route) })),
  ];
}

/** A body as it came, once it is what its route takes: mistakes are told before anything is loaded for them. */
async function bodyOf(context: RequestContext, schema: z.ZodType): Promise<Record<string, unknown>> {
  const request = await context.body(Body);
  checkedBody(request, schema);
  return request;
}

/** A job, and what it is charged. */
interface PaidJob {
  readonly job: AnswerJob;
  readonly charge: Charge;
}

/** Reads a request as a job; what it may take is reserved when this resolves. */
async function paidJobOf(
  parts: QueenParts,
  what: { path: RelayedPath; request: Record<string, unknown>; context: RequestContext },
): Promise<PaidJob> {
  const { cluster, commonPrefixes, keys, charges, now } = parts;
  const { path, request, context: { caller, correlationId } } = what;
  const { model, priority, places, context } = admit(parts, { request, caller });
  const cacheScope = keys.cacheScopeOf(caller.id);
  const text = promptTextOf(model, { request, scope: cacheScope });
  const promptTokens = promptTokensOf(text);
  const asked = askedIn(path, request, promptTokens);
  const payer = { id: newJobId(), key: caller.id, model, context };
  const bound = charges.boundOf(payer, asked);
  const maxTokens = bound ?? asked.answerTokens;
  const slots = asked.prompts * asked.choices;
  const tokens = expectedTokens(text, { maxTokens, usual: cluster.paces.tokens(model), answers: slots });
  const nowMs = now();
  const job: AnswerJob = {
    ...{ route: path, path },
    request: { ...request, ...boundedBy(path, bound), model },
    stream: request.stream === true,
    text,
    cacheScope,
    common: commonPrefixes.headerFor(model, request),
    wanted: {
      ...{ id: payer.id, key: caller.id, share: keys.shareOf(caller.id), model, tokens },
      ...{ ...places, priority, sinceMs: nowMs, embeds: false, promptTokens, slots },
      deadlineMs: deadlineMsOf(parts, { context: what.context, sinceMs: nowMs }),
    },
    startedUnix: Math.floor(Date.now() / 1000),
    correlationId,
  };
  return {
    job,
    charge: await charges.reserve(payer, {
      ...{ ...asked, answerTokens: maxTokens, bounded: bound !== undefined },
    }),
  };
}

/** Says in the words of a route how many tokens an answer may have. */
function boundedBy(path: RelayedPath, bound: number | undefined): Record<string, unknown> {
  if (bound === undefined) return {};
  return path === FOREIGN_ROUTES.responses.path ? { max_output_tokens: bound } : { max_tokens: bound };
}

/** Ids as clients of others know them: letters and digits. */
export function newJobId(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** Runs a job for one client and charges its key, however it ends. */
async function runFor(
  parts: QueenParts,
  { job, charge }: PaidJob,
  how: { sink: AnswerSink; signal: AbortSignal; context: RequestContext },
): Promise<void> {
  const { answers, metrics, keys } = parts;
  const { sink, context } = how;
  using key = keys.use(job.wanted.key);
  const signal = AbortSignal.any([how.signal, key.signal]);
  try {
    const progress = await answers.run(job, {
      signal,
      sink: {
        ...sink,
        started: (_, progress) => charge.began(progress),
        piece: (piece, progress) => {
          charge.advanced();
          return sink.piece(piece, progress);
        },
      },
    });
    metrics.ended("done");
    context.log.info("answer relayed", { job_id: job.wanted.id, tokens: progress.told });
  } catch (error) {
    const isCanceled = signal.aborted || toRbeeError(error).code === "REQUEST_CANCELED";
    metrics.ended(isCanceled ? "canceled" : "failed");
    throw error;
  } finally {
    charge.end();
  }
}

async function streamed(
  parts: QueenParts,
  what: PaidJob & {
    dialect: Dialect;
    texts: EventStreamOptions["texts"];
    context: RequestContext;
  },
): Promise<Response> {
  const { job, dialect, texts, context } = what;
  const left = new AbortController();
  let writer!: EventWriter;
  const stream = eventStream((opened) => writer = opened, {
    onCancel: () => left.abort(new RbeeError("REQUEST_CANCELED", "The caller went away.")),
    texts,
  });
  const open = Promise.withResolvers<void>();
  let isOpen = false;
  // What is wrong is said with a status of its own as long as nothing else was; who waits longer is told how it goes.
  const patience = setTimeout(open.resolve, QUIET_WAIT_MS);
  const running = runFor(parts, what, {
    signal: left.signal,
    context,
    sink: {
      waiting: (news) => isOpen && writer.write(waitingComment(news)),
      piece({ text, marks }) {
        // The end is written by whoever ends the stream.
        if (marks.length > 0) writer.write(text);
        open.resolve();
      },
    },
  });
  running.then(() => writer.end(), (error) => {
    if (isOpen) writer.write(errorEvent(dialect, toRbeeError(error), context.correlationId));
    writer.end();
  });
  try {
    await Promise.race([open.promise, running]);
  } finally {
    clearTimeout(patience);
  }
  isOpen = true;
  return eventResponse(stream, { "X-Request-Id": job.wanted.id });
}

function errorEvent(dialect: Dialect, error: RbeeError, correlationId: string): string {
  const name = dialect === "anthropic" ? "event: error\n" : "";
  return `${name}data: ${JSON.stringify(errorIn(dialect, error, correlationId))}\n\n`;
}

function waitingComment(news: WaitNews): string {
  if (news.type === "loading") return `: loading on ${news.load.node}: ${news.load.stage}\n\n`;
  const eta = news.etaMs === undefined ? "" : `, about ${Math.ceil(news.etaMs / 1000)} s`;
  return `: queued at ${news.position}${eta}\n\n`;
}

async function whole(
  parts: QueenParts,
  what: PaidJob & { context: RequestContext },
): Promise<Response> {
  const { job, context } = what;
  let body = "";
  let failure: RbeeError | undefined;
  await runFor(parts, what, {
    signal: context.request.signal,
    context,
    sink: {
      piece({ text, marks }, progress) {
        if (marks.length > 0) return;
        body = text.trim().slice(PREFIX.length).replace(/\n\ndata: \[DONE\]$/, "");
        failure = failureOf(progress);
      },
    },
  });
  if (failure !== undefined) {
    const told = ErrorEnvelopeSchema.safeParse(JSON.parse(body));
    throw told.success ? errorFromBody(told.data.error) : failure;
  }
  return new Response(body, {
    headers: { "Content-Type": "application/json", "X-Request-Id": job.wanted.id },
  });
}

/** Sends a request to a worker of its model as it is, and its answer back. */
function passOn(parts: QueenParts, what: (typeof PASSED_ON)[number]): Handler {
  const { spec, schema, slot } = what;
  return async (context) => {
    const { failover, keys, charges, now } = parts;
    const { caller } = context;
    const request = await bodyOf(context, schema);
    const { model, priority, places, context: most } = admit(parts, { request, caller });
    const asked = readIn(slot ? request : {});
    const { promptTokens: tokens } = asked;
    const sinceMs = now();
    const deadlineMs = deadlineMsOf(parts, { context, sinceMs });
    const payer = { id: newJobId(), key: caller.id, model };
    const charge = await charges.reserve({ ...payer, context: most }, asked);
    using inUse = keys.use(caller.id);
    return await failover.run(
      {
        wanted: {
          ...{ ...payer, ...places, share: keys.shareOf(caller.id), tokens },
          ...{ priority, sinceMs, deadlineMs },
          embeds: slot ? true : undefined,
        },
        route: spec.path,
        slotless: !slot,
        correlationId: context.correlationId,
      },
      {
        signal: AbortSignal.any([context.request.signal, inUse.signal]),
        attempt: async (at) => {
          if (slot) charge.began();
          at.took(tokens);
          const response = await at.call(spec.path, { body: { ...request, model } });
          const body = await at.read(response);
          charge.read(response.ok ? readOf(body) ?? tokens : 0);
          return new Response(body, {
            status: response.status,
            headers: { "Content-Type": response.headers.get("Content-Type") ?? "application/json" },
          });
        },
      },
    ).finally(() => charge.end());
  };
}

/** When a request must have ended, on the queen's clock: as its headers say, and never later than the limit. */
function deadlineMsOf(
  { config }: QueenParts,
  what: { context: RequestContext; sinceMs: number },
): number {
  const limitMs = config.job_timeout * 1000;
  return what.sinceMs + Math.min(limitMs, deadlineOf(what.context.request.headers) ?? limitMs);
}

function modelList({ cluster, keys, startedUnix }: QueenParts, caller: Caller) {
  const models = modelsFor({ cluster, limits: keys.limitsOf(caller.id) }).sort();
  return { object: "list", data: models.map((id) => modelEntry(id, startedUnix)) };
}

function oneModel(
  { cluster, keys, startedUnix }: QueenParts,
  what: { id: string; caller: Caller },
) {
  const model = modelOf(what.id, { cluster, limits: keys.limitsOf(what.caller.id) });
  if (!cluster.hasModel(model)) {
    throw new RbeeError(
      "MODEL_NOT_FOUND",
      `No node of this cluster has ${model}. A request for it would fetch it.`,
    );
  }
  return modelEntry(model, startedUnix);
}

function modelEntry(id: string, createdUnix: number) {
  return { id, object: "model", created: createdUnix, owned_by: "rbee" };
}

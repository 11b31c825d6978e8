/** The worker's HTTP interface: every route of SPEC §5 and who answers it. */
import { healthRoutes } from "../daemon/health.ts";
import type { Logger } from "../daemon/log.ts";
import { openApiRoute } from "../daemon/openapi.ts";
import { type App, createApp, eventResponse, type Handler } from "../daemon/serve.ts";
import { WORKER_ROUTES } from "../protocol/routes.ts";
import { eventStream } from "../protocol/sse.ts";
import {
  CancelRequest,
  ExportRequest,
  InferenceRequest,
  RequestId,
  SelfTestRequest,
  ShutdownRequest,
} from "../protocol/worker_requests.ts";
import type { ShutdownResponse } from "../protocol/worker_schemas.ts";
import { invalidRequest } from "../protocol/errors.ts";
import { encodeBlocks } from "../protocol/prefix_blocks.ts";
import { type AnswerHandler, relay } from "./apis/relay.ts";
import { foreignRoutes, relayedHandlers } from "./apis/routes.ts";
import { answerInference } from "./inference.ts";
import type { WorkerMetrics } from "./metrics.ts";
import { resumableWork } from "./exported_answer.ts";
import type { Worker } from "./worker.ts";

/** Options of {@linkcode createWorkerApp}. */
export interface WorkerAppOptions {
  /** What it serves. */
  worker: Worker;
  /** Counts. */
  metrics: WorkerMetrics;
  /** The worker's own key. */
  apiKey: string;
  /** Told of requests. */
  log: Logger;
  /** Told when somebody with the key asks for its health. */
  onHealthAsked?: () => void;
}

/** Builds the interface around one worker. */
export function createWorkerApp(options: WorkerAppOptions): App {
  const { worker, metrics } = options;

  const inference: AnswerHandler = async (context) => {
    // Before the body: a worker that can't answer need not read 16 MiB first.
    if (worker.notReady) throw worker.notReady;
    const { request_id: requestId, stream, ...work } = await context.body(InferenceRequest);
    return await answerInference(worker, { work, requestId, stream }, context);
  };

  const ready: Handler = async ({ query }) => {
    const status = worker.status();
    if (!status.ready || query.get("blocks") !== "true") return Response.json(status);
    return Response.json({ ...status, blocks: encodeBlocks(await worker.engine.heldBlocks()) });
  };

  const exported: Handler = async ({ params, body }) => {
    const bytes = await worker.export(requestIdOf(params), await body(ExportRequest));
    return new Response(bytes, { headers: { "Content-Type": "application/octet-stream" } });
  };

  const resume: Handler = async (context) => {
    if (worker.notReady) throw worker.notReady;
    const work = await resumableWork(await context.bytes(), worker);
    return await answerInference(worker, { work, stream: true }, context);
  };

  const loadingProgress: Handler = () => {
    let stop = () => {};
    const stream = eventStream((writer) => {
      stop = worker.loading.follow((event) => {
        writer.send(event);
        if (event.stage !== "loading_to_vram") {
          writer.end();
          stop();
        }
      });
    }, { onCancel: () => stop() });
    return eventResponse(stream);
  };

  const cancel: Handler = ({ params }) => {
    worker.cancel(requestIdOf(params));
    return new Response(null, { status: 204 });
  };

  const cancelAlias: Handler = async ({ body }) => {
    const { request_id } = await body(CancelRequest);
    worker.cancel(request_id);
    return Response.json({ request_id }, { status: 202 });
  };

  const shutdown: Handler = async ({ body }) => {
    const { if_idle_ms } = await body(ShutdownRequest);
    const idleMs = Math.round(worker.idleMs);
    const answer: ShutdownResponse = { accepted: worker.askShutdown(if_idle_ms), idle_ms: idleMs };
    return Response.json(answer);
  };

  const selfTest: Handler = async ({ body }) => {
    const { if_idle_ms } = await body(SelfTestRequest);
    return Response.json(await worker.selfTest(if_idle_ms));
  };

  return createApp({
    apiKey: options.apiKey,
    log: options.log,
    routes: [
      ...healthRoutes(WORKER_ROUTES.v1Health, {
        degraded: () => worker.degraded,
        engine: () => worker.heartbeat(),
        notReady: () => worker.notReady?.message,
        onAsked: options.onHealthAsked,
      }),
      { spec: WORKER_ROUTES.ready, handle: ready },
      { spec: WORKER_ROUTES.loadingProgress, handle: loadingProgress },
      { spec: WORKER_ROUTES.inference, handle: inference },
      { spec: WORKER_ROUTES.execute, handle: inference },
      { spec: WORKER_ROUTES.cancel, handle: cancel },
      { spec: WORKER_ROUTES.export, handle: exported },
      { spec: WORKER_ROUTES.resume, handle: resume },
      {
        spec: WORKER_ROUTES.relay,
        handle: relay({ [WORKER_ROUTES.inference.path]: inference, ...relayedHandlers(worker) }),
      },
      { spec: WORKER_ROUTES.cancelAlias, handle: cancelAlias },
      { spec: WORKER_ROUTES.shutdown, handle: shutdown },
      { spec: WORKER_ROUTES.selfTest, handle: selfTest },
      { spec: WORKER_ROUTES.metrics, handle: () => metrics.response(worker) },
      openApiRoute("worker"),
      ...foreignRoutes(worker),
    ],
  });
}

function requestIdOf(params: Record<string, string>): string {
  const id = RequestId.safeParse(params.request_id);
  if (!id.success) throw invalidRequest(id.error, "The request id");
  return id.data;
}

/** The hive's HTTP interface: every route of SPEC §6 and who answers it. */
import * as z from "zod";
import { bearerOf } from "../daemon/auth.ts";
import { healthRoutes } from "../daemon/health.ts";
import type { Logger } from "../daemon/log.ts";
import { openApiRoute } from "../daemon/openapi.ts";
import { type App, createApp, eventResponse, type Handler, type Route } from "../daemon/serve.ts";
import type { Config } from "../home/config_schema.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import {
  type CancelDownloadResponse,
  type CapabilitiesResponse,
  DownloadRequest,
  type HiveEvent,
  type ListedModel,
  LogsQuery,
  PruneRequest,
  ReadyCallback,
  VerifyRequest,
} from "../protocol/hive_schemas.ts";
import { MAX_SLOTS, SpawnRequest } from "../protocol/spawn_request.ts";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import { eventStream, type EventWriter } from "../protocol/sse.ts";
import { API_VERSION, VERSION } from "../protocol/version.ts";
import type { Clock } from "../daemon/clock.ts";
import type { HiveEvents } from "./events.ts";
import type { Hardware } from "./hardware.ts";
import { followLogs } from "./logs/follow.ts";
import type { HiveLogs } from "./logs/hive_logs.ts";
import type { HiveMetrics } from "./metrics.ts";
import { serveBlob } from "./models/blob_server.ts";
import { isTerminal } from "./models/download_job.ts";
import type { Models } from "./models/models.ts";
import type { InUse } from "./models/models_options.ts";
import { queryOf } from "../daemon/query.ts";
import { workerMetrics } from "./worker_metrics.ts";
import type { Workers } from "./workers/workers.ts";

/** Parts of a hive, put together. */
export interface HiveAppOptions {
  /** The hive's own key. */
  apiKey: string;
  /** Told of requests. */
  log: Logger;
  /** What it is allowed to do. */
  config: Config["hive"];
  /** The machine. */
  hardware: Hardware;
  /** The models on it. */
  models: Models;
  /** The workers on it. */
  workers: Workers;
  /** Counts. */
  metrics: HiveMetrics;
  /** What happens. */
  events: HiveEvents;
  /** What was written. */
  logs: HiveLogs;
  /** How the memory of workers is limited. */
  workerMemory: () => Promise<CapabilitiesResponse["limits"]["worker_memory"]>;
  /** For pauses. */
  clock: Clock;
}

const Nothing = z.strictObject({});
const ProgressQuery = z.strictObject({ id: z.string().min(1).max(128) });

/** Builds the interface. */
export function createHiveApp(options: HiveAppOptions): App {
  const { config, hardware, models, workers, metrics, events, logs, clock } = options;

  const memory = () => ({ ...hardware.memory(), reserve_mb: config.reserve_mb });

  const capabilities: Handler = async () => {
    const { devices, llama_cpp, sandbox } = await hardware.detect();
    const body: CapabilitiesResponse = {
      backends: [...new Set(devices.map(({ backend }) => backend))],
      devices,
      memory: memory(),
      cpu: hardware.cpu(),
      loads: workers.pastLoads(),
      disk: await hardware.disk(),
      sandbox,
      limits: {
        worker_ports: config.worker_ports,
        idle_timeout_seconds: config.idle_timeout,
        max_slots: MAX_SLOTS,
        worker_memory: await options.workerMemory(),
      },
      versions: { rbee: VERSION, api: API_VERSION, deno: Deno.version.deno, llama_cpp },
    };
    return Response.json(body);
  };

  const download: Handler = async ({ body }) => {
    const { model_ref } = await body(DownloadRequest);
    const answer = await models.download(model_ref);
    if ("local_path" in answer) return Response.json(answer);
    return Response.json(answer, { status: 202 });
  };

  const downloadProgress: Handler = ({ query }) => {
    const { id } = queryOf(query, ProgressQuery);
    let stop = () => {};
    let writer!: EventWriter;
    const stream = eventStream((opened) => writer = opened, { onCancel: () => stop() });
    try {
      stop = models.progress(id, (event) => {
        writer.send(event);
        if (isTerminal(event)) writer.end();
      });
    } catch (error) {
      writer.end();
      throw error;
    }
    return eventResponse(stream);
  };

  const offer: Handler = async ({ query }) => {
    const { model_ref } = queryOf(query, DownloadRequest);
    return Response.json(await models.offer(model_ref));
  };

  const blob: Handler = async ({ request, params }) => {
    const path = await models.blob(params.digest);
    return await serveBlob(request, { path, digestHex: params.digest });
  };

  const inUse: InUse = (model) => workers.filesInUse.has(model);

  const listModels: Handler = async () => {
    const listed = (await models.list()).map(({ files, ...model }): ListedModel => ({
      ...model,
      in_use: inUse({ ...model, files }),
    }));
    return Response.json({ models: listed });
  };

  const verify: Handler = async ({ body, correlationId }) => {
    const { model_ref } = await body(VerifyRequest);
    const model = await models.require(model_ref);
    const left = new AbortController();
    const stream = eventStream((writer) => {
      const emit = writer.send;
      models.verify(model, { signal: left.signal, emit })
        .then(emit, (error) => emit({ stage: "error", error: toRbeeError(error).toBody(correlationId) }))
        .finally(() => writer.end());
    }, { onCancel: () => left.abort() });
    return eventResponse(stream);
  };

  const prune: Handler = async ({ body }) =>
    Response.json(await models.prune(await body(PruneRequest), { inUse }));

  const deleteModel: Handler = async ({ params }) => {
    await models.remove(params.ref, { inUse });
    return new Response(null, { status: 204 });
  };

  const spawn: Handler = async ({ body, log }) => {
    const request = await body(SpawnRequest);
    try {
      const answer = await workers.spawn(request);
      metrics.spawned(answer.reused ? "reused" : "started");
      return Response.json(answer, { status: answer.reused ? 200 : 202 });
    } catch (thrown) {
      const error = toRbeeError(thrown);
      metrics.spawned(error.code);
      log.warn("spawn refused", { model_ref: request.model_ref, code: error.code, reason: error.message });
      throw error;
    }
  };

  const ready: Handler = async ({ request, body }) => {
    const token = bearerOf(request.headers);
    if (token === undefined) {
      throw new RbeeError("MISSING_API_KEY", "The ready callback needs the worker's one-time token.");
    }
    workers.acceptCallback(token, await body(ReadyCallback));
    return new Response(null, { status: 204 });
  };

  const followEvents: Handler = () => {
    let stop = () => {};
    const stream = eventStream((writer) => {
      for (const { worker_id, model_ref, state } of workers.snapshot()) {
        writer.send({ kind: "worker", worker_id, model_ref, what: "state", state } satisfies HiveEvent);
      }
      stop = events.follow(writer.send);
    }, { onCancel: () => stop() });
    return eventResponse(stream);
  };

  const readLogs: Handler = async ({ query, correlationId }) => {
    const { follow, worker_id: workerId, since: sinceMs, tail } = queryOf(query, LogsQuery);
    const wanted = { workerId, sinceMs, tail };
    if (!follow) {
      const { lines } = await logs.read(wanted);
      return new Response(`{"lines":[${lines.map(({ json }) => json).join(",")}]}`, {
        headers: { "Content-Type": "application/json" },
      });
    }
    if (workerId !== undefined) await logs.require(workerId);
    const left = new AbortController();
    const stream = eventStream((writer) => {
      const { signal } = left;
      const tell = (lines: readonly string[]) =>
        writer.write(lines.map((line) => `data: ${line}\n\n`).join(""));
      followLogs(logs, wanted, { clock, signal, tell })
        .catch((error) => signal.aborted || writer.send({ error: toRbeeError(error).toBody(correlationId) }))
        .finally(() => writer.end());
    }, { onCancel: () => left.abort() });
    return eventResponse(stream);
  };

  const shutdownWorker: Handler = async ({ params, body }) => {
    await body(Nothing);
    await workers.shutdown(params.id);
    return new Response(null, { status: 204 });
  };

  const routes: Route[] = [
    { spec: HIVE_ROUTES.capabilities, handle: capabilities },
    { spec: HIVE_ROUTES.download, handle: download },
    {
      spec: HIVE_ROUTES.cancelDownload,
      handle: async ({ params }) => {
        const answer: CancelDownloadResponse = { canceled: await models.cancel(params.id) };
        return Response.json(answer);
      },
    },
    { spec: HIVE_ROUTES.models, handle: listModels },
    { spec: HIVE_ROUTES.verifyModel, handle: verify },
    { spec: HIVE_ROUTES.pruneModels, handle: prune },
    { spec: HIVE_ROUTES.blob, handle: blob },
    { spec: HIVE_ROUTES.deleteModel, handle: deleteModel },
    { spec: HIVE_ROUTES.spawn, handle: spawn },
    { spec: HIVE_ROUTES.ready, handle: ready },
    { spec: HIVE_ROUTES.workers, handle: async () => Response.json({ workers: await workers.list() }) },
    { spec: HIVE_ROUTES.worker, handle: async ({ params }) => Response.json(await workers.get(params.id)) },
    { spec: HIVE_ROUTES.events, handle: followEvents },
    { spec: HIVE_ROUTES.shutdownWorker, handle: shutdownWorker },
  ];
  return createApp({
    apiKey: options.apiKey,
    log: options.log,
    routes: [
      ...healthRoutes(HIVE_ROUTES.v1Health, { degraded: () => false, notReady: () => workers.notReady }),
      {
        spec: HIVE_ROUTES.metrics,
        handle: async ({ request: { signal } }) => {
          const passedOn = await workerMetrics(workers.records, { signal });
          return await metrics.response({ workers: workers.snapshot(), memory: memory(), passedOn });
        },
      },
      { spec: HIVE_ROUTES.downloadProgress, handle: downloadProgress },
      openApiRoute("hive"),
      { spec: HIVE_ROUTES.offer, handle: offer },
      { spec: HIVE_ROUTES.logs, handle: readLogs },
      ...routes.map((route): Route => ({
        ...route,
        handle: (context) => {
          // None of these takes a query: a misspelt one must not pass for a request without it.
          queryOf(context.query, Nothing);
          return route.handle(context);
        },
      })),
    ],
  });
}

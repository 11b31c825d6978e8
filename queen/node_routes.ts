/**
 * What the queen has its hives do for whoever runs the machines. A hive is called with its own key; the caller's goes no
 * further than here. Answers are passed on as they come, and a stream ends there when its reader leaves here.
 */
import * as z from "zod";
import { queryOf } from "../daemon/query.ts";
import { type Handler, type RequestContext, type Route } from "../daemon/serve.ts";
import { openAnswer } from "../protocol/client.ts";
import { isSilence, RbeeError } from "../protocol/errors.ts";
import { HiveClient } from "../protocol/hive_client.ts";
import { DownloadRequest, LogsQuery, PruneRequest, VerifyRequest } from "../protocol/hive_schemas.ts";
import { type ClusterModel, ClusterModelsQuery } from "../protocol/queen_schemas.ts";
import { HIVE_ROUTES, NODE_ROUTES, QUEEN_ROUTES } from "../protocol/routes.ts";
import { SpawnRequest } from "../protocol/spawn_request.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { ClusterNode } from "./cluster/cluster_node.ts";
import { shuttingDown } from "./dispatch/scheduler.ts";
import { HIVE_ANSWER_TIMEOUT_MS, HIVE_WORK_TIMEOUT_MS, SPAWN_TIMEOUT_MS } from "./limits.ts";
import type { Nodes } from "./nodes.ts";

/** What these routes need. */
export interface NodeRoutesOptions {
  cluster: Cluster;
  nodes: Nodes;
  /** Ends what is passed on. */
  signal: AbortSignal;
}

/** Longest path of a log line. */
const MAX_PATH_LOGGED_CHARS = 256;
const Nothing = z.strictObject({});
const ProgressQuery = z.strictObject({ id: z.string().min(1).max(128) });

/** What is passed on as it stands, once it is what the hive's route takes. */
const PASSED_ON: {
  name: Exclude<keyof typeof NODE_ROUTES, "spawn">;
  body?: z.ZodType;
  query?: z.ZodType;
  timeoutMs?: number;
}[] = [
  { name: "v1Health" },
  { name: "capabilities" },
  { name: "download", body: DownloadRequest, timeoutMs: HIVE_WORK_TIMEOUT_MS },
  { name: "downloadProgress", query: ProgressQuery },
  { name: "cancelDownload" },
  { name: "models" },
  { name: "verifyModel", body: VerifyRequest },
  { name: "pruneModels", body: PruneRequest, timeoutMs: HIVE_WORK_TIMEOUT_MS },
  { name: "deleteModel", timeoutMs: HIVE_WORK_TIMEOUT_MS },
  { name: "workers" },
  { name: "worker" },
  { name: "logs", query: LogsQuery },
  { name: "shutdownWorker", body: Nothing, timeoutMs: HIVE_WORK_TIMEOUT_MS },
];

/** The routes. */
export function nodeRoutes(options: NodeRoutesOptions): Route[] {
  const { cluster } = options;
  return [
    {
      spec: QUEEN_ROUTES.clusterModels,
      handle: ({ query }) => {
        const { model_ref: only } = queryOf(query, ClusterModelsQuery);
        return Response.json({ models: modelsOf(cluster, only) });
      },
    },
    { spec: NODE_ROUTES.spawn, handle: spawn(options) },
    ...PASSED_ON.map((route): Route => ({ spec: NODE_ROUTES[route.name], handle: passOn(options, route) })),
  ];
}

function passOn(options: NodeRoutesOptions, route: (typeof PASSED_ON)[number]): Handler {
  const { name, body: schema, query: Query = Nothing, timeoutMs = HIVE_ANSWER_TIMEOUT_MS } = route;
  return async (context) => {
    queryOf(context.query, Query);
    const body = schema && await context.body(schema);
    return await atHive(options, context, async ({ url, apiKey }, signal) => {
      const { correlationId, params: { node: _, ...params }, query } = context;
      const answer = await openAnswer({ baseUrl: url, apiKey, correlationId }, {
        ...{ route: HIVE_ROUTES[name], params, query: Object.fromEntries(query), body, signal, timeoutMs },
      });
      const headers = new Headers();
      for (const header of ["Content-Type", "Cache-Control", "X-Accel-Buffering"]) {
        const value = answer.headers.get(header);
        if (value !== null) headers.set(header, value);
      }
      return new Response(answer.body, { status: answer.status, headers });
    });
  };
}

/** Starts a worker. Its key is told to nobody: it would open the worker to who may not ask for answers. */
function spawn(options: NodeRoutesOptions): Handler {
  return async (context) => {
    queryOf(context.query, Nothing);
    const request = await context.body(SpawnRequest);
    return await atHive(options, context, async ({ url, apiKey }, signal) => {
      const hive = new HiveClient({ baseUrl: url, apiKey, correlationId: context.correlationId });
      const { api_key: _, ...told } = await hive.spawn(request, { signal, timeoutMs: SPAWN_TIMEOUT_MS });
      return Response.json(told, { status: told.reused ? 200 : 202 });
    });
  };
}

/**
 * Calls the hive of the machine that a path names.
 *
 * @throws {RbeeError} `NODE_NOT_FOUND`; `NODE_UNREACHABLE`; what the hive says.
 */
async function atHive(
  { cluster, nodes, signal }: NodeRoutesOptions,
  { params: { node: name }, request, caller, log }: RequestContext,
  call: (hive: ClusterNode, signal: AbortSignal) => Promise<Response>,
): Promise<Response> {
  const node = cluster.node(name);
  if (node === undefined) {
    await nodes.require(name);
    throw new RbeeError(
      "NODE_UNREACHABLE",
      `The hive of ${name} has not reported to this queen, which calls it with the key that it reports with.`,
    );
  }
  if (request.method !== "GET") {
    const path = new URL(request.url).pathname.slice(0, MAX_PATH_LOGGED_CHARS);
    log.info("hive is asked for a caller", { node: name, by: caller.id, method: request.method, path });
  }
  const either = AbortSignal.any([request.signal, signal]);
  try {
    return await call(node, either);
  } catch (error) {
    request.signal.throwIfAborted();
    if (signal.aborted) throw shuttingDown();
    throw ofHive(name, error);
  }
}

/** An error of a call to a hive, as it is for who called the queen. */
function ofHive(name: string, error: unknown): unknown {
  if (!(error instanceof RbeeError)) return error;
  if (isSilence(error) && error.correlationId === undefined) {
    return new RbeeError(
      "NODE_UNREACHABLE",
      `The hive of ${name} does not answer the queen: ${error.message}`,
      {
        cause: error,
      },
    );
  }
  // It is not the caller's key that is wrong.
  if (error.status === 401 || error.code === "FORBIDDEN") {
    return new RbeeError("NODE_UNREACHABLE", `The hive of ${name} refuses the key that it has reported.`, {
      cause: error,
    });
  }
  return error;
}

/** Which model lies where, or is loaded there, on machines that are not down; by name. */
function modelsOf(cluster: Cluster, only: string | undefined): ClusterModel[] {
  const models = new Map<string, ClusterModel>();
  for (const node of cluster.nodes()) {
    if (node.presence === "down") continue;
    for (const ref of only === undefined ? node.known : [only]) {
      if (!node.known.has(ref)) continue;
      const bytes = node.models.get(ref);
      const model = models.get(ref) ?? { model_ref: ref, size_bytes: null, nodes: [] };
      models.set(ref, model);
      model.size_bytes ??= bytes ?? null;
      model.nodes.push({
        ...{ node: node.name, presence: node.presence, on_disk: bytes !== undefined },
        worker_ids: [...node.workers].filter(({ model }) => model === ref).map(({ id }) => id),
      });
    }
  }
  return [...models.values()].sort((a, b) => a.model_ref < b.model_ref ? -1 : 1);
}

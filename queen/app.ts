/** The queen's HTTP interface: every route of SPEC §9 and who answers it. */
import * as z from "zod";
import { healthRoutes } from "../daemon/health.ts";
import { openApiRoute } from "../daemon/openapi.ts";
import { queryOf } from "../daemon/query.ts";
import { type App, createApp, eventResponse, type Handler, type RequestContext } from "../daemon/serve.ts";
import { callRouteEmpty } from "../protocol/client.ts";
import { RbeeError } from "../protocol/errors.ts";
import {
  AddNodeRequest,
  DrainNodeRequest,
  ExplainQuery,
  Heartbeat,
  LabelNodeRequest,
  NodeRequest,
  TaskRequest,
} from "../protocol/queen_schemas.ts";
import { may } from "../protocol/rights.ts";
import { OPEN_HEALTH_ROUTES, QUEEN_ROUTES } from "../protocol/routes.ts";
import { eventStream, type PacedEventWriter } from "../protocol/sse.ts";
import { keyRoutes } from "./key_routes.ts";
import { nodeRoutes } from "./node_routes.ts";
import { requestRoutes } from "./request_routes.ts";
import type { LiveConfig } from "./live_config.ts";
import type { Nodes } from "./nodes.ts";
import type { QueenParts } from "./parts.ts";
import type { RemoteNodes } from "./remote_nodes.ts";
import { logPresences } from "./cluster/presence.ts";
import { RefusedReports } from "./cluster/refused_reports.ts";
import { drain } from "./drain.ts";
import { Reporters } from "./reporters.ts";
import { explain } from "./placement/explain.ts";
import type { ClusterNode } from "./cluster/cluster_node.ts";
import { BODIES_MAX_BYTES, RIVAL_TIMEOUT_MS, UNREAD_EVENTS_BYTES } from "./limits.ts";
import { frontDoorRoutes } from "./dispatch/front_door.ts";
import { requireModel } from "./dispatch/requests.ts";
import { requireNode } from "./request_limits.ts";
import type { Tasks } from "./dispatch/tasks.ts";

/** Parts of a queen, put together. */
export interface QueenAppOptions {
  parts: QueenParts;
  tasks: Tasks;
  nodes: Nodes;
  remote: RemoteNodes;
  live: LiveConfig;
  /** The queen's own key. */
  apiKey: string;
  /** Why it can't work at present, or undefined. */
  notReady: () => string | undefined;
  /** Ends what a caller waits for. */
  signal: AbortSignal;
}

const Nothing = z.strictObject({});

/** Builds the interface. */
export function createQueenApp(options: QueenAppOptions): App {
  const { parts, tasks, nodes, remote } = options;
  const { cluster, scheduler, loads, keys, metrics, now, offenders, usage } = parts;
  const reporters = new Reporters(parts.log);

  const refusedReports = new RefusedReports(parts);

  const heartbeat: Handler = async ({ body, caller }) => {
    const report = await body(Heartbeat);
    reporters.require(caller, report.node_name);
    const rival = cluster.rivalOf(report);
    if (rival !== undefined && await answers(rival)) throw nameTaken(rival, report);
    const news = cluster.report(report, now());
    metrics.heartbeat();
    loads.reported();
    metrics.presences(news.presences);
    logPresences(news.presences, parts.log);
    scheduler.changed(news);
    return Response.json({ complete: news.complete });
  };

  const submit: Handler = async (context) => {
    const request = await context.body(TaskRequest);
    const receipt = await tasks.submit(request, {
      caller: context.caller,
      correlationId: context.correlationId,
    });
    const headers = { "X-Job-Id": receipt.job_id };
    if (!request.stream) return Response.json(receipt, { status: 202, headers });
    return await followed(context, { id: receipt.job_id, afterSeq: 0, headers });
  };

  const followed = async (
    context: RequestContext,
    what: { id: string; afterSeq: number; headers?: Record<string, string> },
  ): Promise<Response> => {
    const { id, afterSeq, headers } = what;
    let stop = () => {};
    let writer!: PacedEventWriter;
    const stream = eventStream((opened) => writer = opened, { onCancel: () => stop() });
    try {
      stop = await tasks.follow(id, {
        caller: context.caller,
        afterSeq,
        follower: {
          event(event, seq) {
            writer.write(
              `${seq === undefined ? "" : `id: ${seq}\n`}event: ${event.type}\ndata: ${
                JSON.stringify({ ...event, seq })
              }\n\n`,
            );
            return writer.taken(UNREAD_EVENTS_BYTES);
          },
          over: () => writer.end(),
        },
      });
    } catch (error) {
      writer.end();
      throw error;
    }
    return eventResponse(stream, headers);
  };

  const cancel: Handler = async ({ params, caller }) => {
    await tasks.cancel(params.id, caller);
    return new Response(null, { status: 204 });
  };

  const workers: Handler = () =>
    Response.json({
      workers: [...cluster.workers()].map((worker) => ({
        worker_id: worker.id,
        node: worker.node,
        url: worker.url,
        model_ref: worker.model,
        backend: worker.backend,
        device: worker.device,
        state: worker.state,
        slots_total: worker.slots,
        slots_busy: worker.busy,
        presence: cluster.node(worker.node)!.presence,
      })),
    });

  const onNode = (act: (name: string) => Promise<void>): Handler => async ({ body }) => {
    const { node_name: name } = await body(NodeRequest);
    await act(name);
    return Response.json(await nodes.info(name));
  };

  const cordon = async (name: string, cordoned: boolean) => {
    scheduler.changed(await nodes.cordon(name, cordoned));
    parts.log.info(cordoned ? "machine is cordoned" : "machine is uncordoned", { node: name });
  };

  const drainNode: Handler = async ({ body }) => {
    const { node_name: name, timeout } = await body(DrainNodeRequest);
    await cordon(name, true);
    await drain(name, { cluster, timeoutMs: timeout * 1000, signal: options.signal, log: parts.log });
    return Response.json(await nodes.info(name));
  };

  const labelNode: Handler = async ({ body }) => {
    const request = await body(LabelNodeRequest);
    await nodes.label(request);
    return Response.json(await nodes.info(request.node_name));
  };

  const removeNode: Handler = async ({ body }) => {
    await nodes.remove((await body(NodeRequest)).node_name);
    return new Response(null, { status: 204 });
  };

  return createApp({
    apiKey: options.apiKey,
    clients: (digest) => keys.identify(digest),
    bodyLimitBytes: (caller) => may(caller, "owner") ? Infinity : parts.config.client_body_mb * 1e6,
    bodiesMaxBytes: BODIES_MAX_BYTES,
    onRefused: (spec, error) => {
      if (spec !== QUEEN_ROUTES.heartbeat || error.code === "REQUEST_CANCELED") return;
      metrics.reportRefused(error.code);
      refusedReports.tell(error);
    },
    // Bad requests count as well: they cost work before they are refused.
    admit: ({ id }, { body, rights }) =>
      body !== undefined && rights?.includes("client") && parts.accounts.admit(id),
    log: parts.log,
    routes: [
      ...healthRoutes(QUEEN_ROUTES.v1Health, { degraded: () => false, notReady: options.notReady }),
      { spec: QUEEN_ROUTES.heartbeat, handle: heartbeat },
      { spec: QUEEN_ROUTES.submit, handle: submit },
      {
        spec: QUEEN_ROUTES.task,
        handle: async ({ params, caller }) => Response.json(await tasks.info(params.id, caller)),
      },
      {
        spec: QUEEN_ROUTES.taskEvents,
        handle: (context) => followed(context, { id: context.params.id, afterSeq: lastEventId(context) }),
      },
      { spec: QUEEN_ROUTES.cancelTask, handle: cancel },
      {
        spec: QUEEN_ROUTES.explain,
        handle: ({ query, caller }) => {
          const wishes = queryOf(query, ExplainQuery);
          const limits = keys.limitsOf(caller.id);
          requireModel(wishes.model, { cluster, limits });
          requireNode(limits, wishes.node);
          const { nodes, downloads } = limits;
          return Response.json(explain({ ...wishes, nodes, downloads }, cluster, now()));
        },
      },
      { spec: QUEEN_ROUTES.workers, handle: workers },
      {
        spec: QUEEN_ROUTES.addNode,
        handle: async ({ body }) => Response.json(await nodes.add(await body(AddNodeRequest))),
      },
      {
        spec: QUEEN_ROUTES.nodes,
        handle: async ({ query }) => {
          queryOf(query, Nothing);
          return Response.json({ nodes: await nodes.list() });
        },
      },
      { spec: QUEEN_ROUTES.removeNode, handle: removeNode },
      { spec: QUEEN_ROUTES.installNode, handle: onNode((name) => remote.install(name)) },
      { spec: QUEEN_ROUTES.startNode, handle: onNode((name) => remote.start(name)) },
      { spec: QUEEN_ROUTES.stopNode, handle: onNode((name) => remote.stop(name)) },
      { spec: QUEEN_ROUTES.cordonNode, handle: onNode((name) => cordon(name, true)) },
      { spec: QUEEN_ROUTES.uncordonNode, handle: onNode((name) => cordon(name, false)) },
      { spec: QUEEN_ROUTES.drainNode, handle: drainNode },
      { spec: QUEEN_ROUTES.labelNode, handle: labelNode },
      {
        spec: QUEEN_ROUTES.metrics,
        handle: async () => {
          const running = [...cluster.workers()].reduce((sum, { own }) => sum + own, 0);
          const { totals: poisoned } = offenders;
          const stored = await nodes.stored();
          return await metrics.response({
            cluster,
            wanted: stored.filter((node) => node.running).map(({ name }) => name),
            poisoned,
            usage: usage.totals,
            waiting: scheduler.waiting,
            running,
          });
        },
      },
      ...keyRoutes({ keys, usage, live: options.live }),
      ...requestRoutes(parts, tasks),
      ...nodeRoutes({ cluster, nodes, signal: options.signal }),
      openApiRoute("queen"),
      ...frontDoorRoutes(parts),
    ],
  });
}

/** Whether a hive is there; it is asked nothing that needs a key. */
async function answers({ url }: ClusterNode): Promise<boolean> {
  const call = { route: OPEN_HEALTH_ROUTES.live, timeoutMs: RIVAL_TIMEOUT_MS };
  return await callRouteEmpty({ baseUrl: url }, call).then(() => true, () => false);
}

function nameTaken({ name, url }: ClusterNode, report: Heartbeat): RbeeError {
  return new RbeeError(
    "NODE_NAME_TAKEN",
    `The hive at ${url} reports as ${name} already. Give the one at ${report.hive_url} another hive.name.`,
    { details: { node_name: name } },
  );
}

function lastEventId({ request, query }: RequestContext): number {
  const text = request.headers.get("Last-Event-ID") ?? query.get("last_event_id") ?? "0";
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new RbeeError("INVALID_REQUEST", "The header Last-Event-ID must be the number of an event.", {
    details: {
      errors: [{ field: "Last-Event-ID", constraint: "format", message: "must be a whole number" }],
    },
  });
}

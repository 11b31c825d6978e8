/** Requests that wait or run: listed for those whose they are and for who runs the machines, and canceled by them. */
import { queryOf } from "../daemon/query.ts";
import type { Handler, Route } from "../daemon/serve.ts";
import { RbeeError } from "../protocol/errors.ts";
import { type RequestInfo, RequestsQuery, type RequestsResponse } from "../protocol/request_schemas.ts";
import { type Caller, may, OWNER } from "../protocol/rights.ts";
import { QUEEN_ROUTES } from "../protocol/routes.ts";
import type { LiveRequest } from "./dispatch/live_requests.ts";
import type { Tasks } from "./dispatch/tasks.ts";
import type { QueenParts } from "./parts.ts";

/** The routes. */
export function requestRoutes(parts: QueenParts, tasks: Tasks): Route[] {
  const { requests, log } = parts;

  const list: Handler = ({ query, caller }) => {
    const { id = "", limit, after } = queryOf(query, RequestsQuery);
    const page: LiveRequest[] = [];
    let total = 0;
    let isLast = true;
    for (const live of requests) {
      if (!live.request.wanted.id.startsWith(id) || !sees(caller, live)) continue;
      total++;
      if (live.place <= after) continue;
      if (page.length < limit) page.push(live);
      else isLast = false;
    }
    const answer: RequestsResponse = {
      requests: page.map((live) => infoOf(live, parts)),
      total,
      next: isLast ? null : String(page.at(-1)!.place),
    };
    return Response.json(answer);
  };

  const cancel: Handler = async ({ params: { id }, caller }) => {
    const live = requests.get(id);
    const isSeen = live !== undefined && sees(caller, live);
    if (isSeen && live.request.route !== QUEEN_ROUTES.submit.path) {
      await live.cancel();
    } else {
      // A task is known for longer than it runs, and may be canceled again.
      await tasks.cancel(id, isSeen ? OWNER : caller).catch((error) => {
        throw error instanceof RbeeError && error.code === "TASK_NOT_FOUND" ? notFound(id) : error;
      });
    }
    log.info("request canceled", { job_id: id, by: caller.id });
    return new Response(null, { status: 204 });
  };

  return [
    { spec: QUEEN_ROUTES.requests, handle: list },
    { spec: QUEEN_ROUTES.cancelRequest, handle: cancel },
  ];
}

function sees(caller: Caller, { request }: LiveRequest): boolean {
  return may(caller, "operator") || caller.id === request.wanted.key;
}

function infoOf(live: LiveRequest, { scheduler, now }: QueenParts): RequestInfo {
  const { request: { wanted, route, slotless, promptTokens, told }, news, worker, sinceMs } = live;
  const { id, key, model, priority, slots = 1 } = wanted;
  return {
    ...{ id, key, route, model, priority, n: slotless ? 0 : slots },
    state: worker === undefined ? "waiting" : "running",
    since_unix: unix(Date.now() - (now() - wanted.sinceMs)),
    state_since_unix: unix(sinceMs),
    ...news?.type === "queued" && {
      ...{ position: news.position, why: news.why },
      eta_ms: scheduler.etaMs(model, news.position),
    },
    ...news?.type === "loading" && { load: news.load },
    ...worker && { node: worker.node, worker_id: worker.id },
    tokens_read: promptTokens?.(),
    tokens_made: told?.() ?? 0,
  };
}

function unix(ms: number): number {
  return Math.round(ms) / 1000;
}

function notFound(id: string): RbeeError {
  return new RbeeError(
    "NOT_FOUND",
    `No request ${JSON.stringify(id.slice(0, 64))} waits or runs here. It may have ended.`,
  );
}

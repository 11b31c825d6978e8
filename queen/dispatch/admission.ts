/** The one door that every request for work comes through: here it meets the limits of its key, before anything runs. */
import type { Caller } from "../../protocol/rights.ts";
import type { QueenParts } from "../parts.ts";
import type { Wish } from "../placement/view.ts";
import type { Priority } from "../queue/fair_queue.ts";
import {
  mostUrgent,
  type RequestLimits,
  requireForm,
  requireNode,
  requirePriority,
} from "../request_limits.ts";
import { modelOf, requireKnownFile, requireModel } from "./requests.ts";

/** What a request was let in as. */
export interface Admission {
  readonly model: string;
  readonly priority: Priority;
  /** Where it may go. */
  readonly places: Pick<Wish, "nodes" | "downloads">;
  /** Tokens that it and its answers may have together; undefined: it is not limited. */
  readonly context?: number;
}

/**
 * Lets a request in, in whatever interface's words it is. `wishes` are those that only a task can have.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`, `NODE_NOT_FOUND`, or `INVALID_REQUEST` that names the field.
 */
export function admit(
  { cluster, keys }: Pick<QueenParts, "cluster" | "keys">,
  what: {
    caller: Caller;
    request: Readonly<Record<string, unknown>>;
    wishes?: { readonly node?: string; readonly priority?: Priority };
  },
): Admission {
  const { caller, request, wishes = {} } = what;
  const limits = keys.limitsOf(caller.id);
  const model = modelOf(request.model, { cluster, limits });
  requireKnownFile(model, { caller, cluster, limits });
  requireForm(limits, request);
  requireNode(limits, wishes.node);
  requirePriority(limits, wishes.priority);
  return admissionOf(limits, { model, priority: wishes.priority });
}

/**
 * Lets one in again that an earlier queen had let in. Machines may not have reported yet, so nothing is asked of them.
 *
 * @throws {RbeeError} as {@linkcode admit}, where its key's limits have changed.
 */
export function admitAgain(
  { cluster, keys }: Pick<QueenParts, "cluster" | "keys">,
  what: {
    key: string;
    request: Readonly<Record<string, unknown>> & { readonly model: string; readonly node?: string };
    priority: Priority;
  },
): Admission {
  const { key, request, priority } = what;
  const limits = keys.limitsOf(key);
  requireModel(request.model, { cluster, limits });
  requireForm(limits, request);
  requireNode(limits, request.node);
  return admissionOf(limits, { model: request.model, priority });
}

function admissionOf(
  limits: RequestLimits,
  { model, priority }: { model: string; priority?: Priority },
): Admission {
  const { nodes, downloads, context } = limits;
  return { model, priority: mostUrgent(limits, priority), places: { nodes, downloads }, context };
}

/** `requests list` and `cancel`: what waits or runs in a queen. */
import { RbeeError } from "../../protocol/errors.ts";
import { printable } from "../../protocol/printable.ts";
import type { RequestInfo } from "../../protocol/request_schemas.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { MAX_NAMES_SHOWN, REQUEST_ID_CHARS_SHOWN } from "../limits.ts";
import { nowUnix } from "../registry.ts";
import type { RequestsCancelFlags, RequestsListFlags } from "../table/requests.ts";
import { textTable } from "../text_table.ts";
import { askMeant } from "./queen_calls.ts";

/** `requests list`. */
export const REQUESTS_LIST: LoadedCommand<RequestsListFlags> = { run: runList };
/** `requests cancel`. */
export const REQUESTS_CANCEL: LoadedCommand<RequestsCancelFlags> = { run: runCancel };

async function runList({ output, signal }: CommandContext, flags: RequestsListFlags): Promise<number> {
  const { limit } = flags;
  const { requests, total } = await askMeant(
    flags,
    signal,
    (queen, options) => queen.requests({ limit }, options),
  );
  if (output.json) await output.document({ requests, total });
  else if (requests.length === 0) output.say("Nothing waits or runs.");
  else {
    await output.text(textTable(requests.map(columns)));
    if (total > requests.length) {
      output.insist(`These are ${requests.length} of ${total}: --limit shows more.`);
    }
  }
  return 0;
}

function columns(request: RequestInfo): Record<string, string> {
  const { id, key, model, route, priority, n, since_unix, tokens_read = "?", tokens_made } = request;
  return {
    REQUEST: id.slice(0, REQUEST_ID_CHARS_SHOWN),
    KEY: key,
    MODEL: model,
    ROUTE: route + (n > 1 ? ` x${n}` : "") + (priority === "batch" ? " (batch)" : ""),
    FOR: seconds(nowUnix() - since_unix),
    STATE: stateOf(request),
    "READ/MADE": `${tokens_read}/${tokens_made}`,
  };
}

/** In a few words: where it runs, or what it waits for. */
function stateOf({ state, node, worker_id, position, eta_ms, why, load }: RequestInfo): string {
  if (state === "running") return `running on ${node}, worker ${worker_id}`;
  if (load !== undefined) return `waiting for ${load.node}: ${load.stage}`;
  if (position === undefined) return "waiting";
  const eta = eta_ms === undefined ? "" : `, about ${seconds(eta_ms / 1000)}`;
  return `waiting at position ${position + 1}${eta}: ${why}`;
}

function seconds(count: number): string {
  return `${Math.max(0, Math.ceil(count))} s`;
}

async function runCancel({ output, signal }: CommandContext, flags: RequestsCancelFlags): Promise<number> {
  const { id, model } = await askMeant(flags, signal, async (queen, options) => {
    const { requests, total } = await queen.requests({ id: flags.id, limit: MAX_NAMES_SHOWN }, options);
    if (total !== 1) throw notOne(flags.id, requests);
    await queen.cancelRequest(requests[0].id, options);
    return requests[0];
  });
  if (output.json) await output.document({ id, model, canceled: true });
  else output.say(`Request ${id} (${model}) is canceled.`);
  return 0;
}

function notOne(given: string, found: readonly RequestInfo[]): RbeeError {
  const id = printable(given.slice(0, 64));
  if (found.length === 0) {
    return new RbeeError("NOT_FOUND", `The id of no request that waits or runs begins with "${id}".`, {
      details: { advice: ["rbee-keeper requests list shows those there are."] },
    });
  }
  const ids = found.map((request) => request.id).join(", ");
  return new RbeeError("INVALID_REQUEST", `More than one request's id begins with "${id}": ${ids}`);
}

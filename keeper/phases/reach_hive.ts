/** Phase 2: is the hive there, does it know us, and is it of our version? */
import type { LoadedConfig } from "../../home/config.ts";
import { compareVersions } from "../../home/version_order.ts";
import { isSilence, RbeeError } from "../../protocol/errors.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import { VERSION } from "../../protocol/version.ts";
import type { HealthResponse } from "../../protocol/worker_schemas.ts";
import type { PhaseContext } from "../context.ts";
import { CONNECT_ATTEMPT_TIMEOUT_MS, CONNECT_DELAYS_MS } from "../limits.ts";
import { ensureLocalHive } from "../local_hive.ts";
import { type ResolvedNode, resolveNode } from "../node.ts";

/** A hive that has answered. */
export interface ReachedHive {
  /** To call it. */
  client: HiveClient;
  /** As it is now: starting this machine's hive may have made a key and chosen a port. */
  node: ResolvedNode;
}

/**
 * Reaches a node's hive; starts this machine's own when it does not run.
 *
 * @throws {RbeeError} `NODE_UNREACHABLE` or `CONNECTION_TIMEOUT` after the last attempt, `VERSION_MISMATCH`, or what
 * the hive says of the key.
 */
export async function reachHive(
  node: ResolvedNode,
  place: LoadedConfig,
  context: PhaseContext,
): Promise<ReachedHive> {
  if (node.local && await ensureLocalHive(node, place, context)) node = await resolveNode(node.name, place);
  const health = await hiveHealth(node, context);
  if (health.version !== VERSION) throw versionMismatch(node, health.version);
  return { client: hiveClient(node, context), node };
}

/**
 * Reaches a node's hive as it is.
 *
 * @throws {RbeeError} as {@linkcode reachHive}, but for the version.
 */
export async function runningHive(node: ResolvedNode, context: PhaseContext): Promise<ReachedHive> {
  await hiveHealth(node, context);
  return { client: hiveClient(node, context), node };
}

/** `GET /v1/health` with EC1's attempts, each failure told in one line. */
export async function hiveHealth(node: ResolvedNode, context: PhaseContext): Promise<HealthResponse> {
  const address = new URL(node.url).host;
  const attempts = CONNECT_DELAYS_MS.length;
  try {
    return await hiveClient(node, context).health({
      signal: context.signal,
      timeoutMs: CONNECT_ATTEMPT_TIMEOUT_MS,
      retry: {
        delaysMs: CONNECT_DELAYS_MS,
        onFailure: ({ attempt, error }) => {
          context.output.say(`Attempt ${attempt}/${attempts}: ${error.message}${nextAttempt(attempt)}`);
        },
      },
    });
  } catch (error) {
    if (!isSilence(error) || error.correlationId !== undefined) throw error;
    throw new RbeeError(error.code, `Cannot connect to ${address} after ${attempts} attempts`, {
      details: node.byQueen ? {} : { hive: address },
      cause: error,
    });
  }
}

/** A client for a node's hive. */
export function hiveClient(node: ResolvedNode, context: PhaseContext): HiveClient {
  const client = { baseUrl: node.url, apiKey: node.apiKey, correlationId: context.correlationId };
  return new HiveClient(client, node.byQueen && node.name);
}

function nextAttempt(attempt: number): string {
  const delayMs = CONNECT_DELAYS_MS.at(attempt);
  return delayMs === undefined ? "" : `; next in ${delayMs} ms`;
}

function versionMismatch(node: ResolvedNode, hiveVersion: string): RbeeError {
  const older = compareVersions(hiveVersion, VERSION) < 0 ? "hive" : "keeper";
  return new RbeeError(
    "VERSION_MISMATCH",
    `The versions differ: this keeper is ${VERSION}, the hive on ${node.name} is ${hiveVersion}`,
    { details: { keeper_version: VERSION, hive_version: hiveVersion, older } },
  );
}

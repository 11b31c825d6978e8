/** How the hive talks to a worker. */
import { WorkerClient } from "../../protocol/worker_client.ts";

/** The part of a worker's interface that its hive uses. */
export type WorkerApi = Pick<WorkerClient, "health" | "ready" | "loadingProgress" | "selfTest" | "shutdown">;

/** Opens the interface of a worker; no connection is made before the first call. */
export type Connect = (worker: { url: string; apiKey: string }) => WorkerApi;

/** Over HTTP. */
export const connectHttp: Connect = ({ url, apiKey }) => new WorkerClient({ baseUrl: url, apiKey });

const WILDCARD_HOSTS = new Map([["0.0.0.0", "127.0.0.1"], ["::", "[::1]"]]);

/**
 * Where this machine reaches a daemon listening on `hostname`: an address for everybody is reached by loopback, which
 * works even where the advertised name can't be resolved here.
 */
export function localHost(hostname: string): string {
  return WILDCARD_HOSTS.get(hostname) ?? urlHost(hostname);
}

/** A host as it stands in a URL: IPv6 in brackets. */
export function urlHost(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}

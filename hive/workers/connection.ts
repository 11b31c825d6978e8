/** How the hive talks to a worker. */
import { WorkerClient } from "../../protocol/worker_client.ts";

/** The part of a worker's interface that its hive uses. */
export type WorkerApi = Pick<WorkerClient, "health" | "ready" | "loadingProgress" | "selfTest" | "shutdown">;

/** Opens the interface of a worker; no connection is made before the first call. */
export type Connect = (worker: { url: string; apiKey: string }) => WorkerApi;

/** Over HTTP. */
export const connectHttp: Connect = ({ url, apiKey }) => new WorkerClient({ baseUrl: url, apiKey });

/** The metrics of workers, as their hive passes them on: nobody else has their keys, and they come and go. */
import type { Metric } from "../daemon/metrics.ts";
import { readMetrics, type ToldMetric } from "../daemon/metrics_text.ts";
import { WorkerClient } from "../protocol/worker_client.ts";
import { WORKER_METRICS_MAX_CHARS, WORKER_METRICS_TIMEOUT_MS } from "./limits.ts";

const PREFIX = "rbee_worker_";

/** A worker, as far as it has to be known. */
export interface AskedWorker {
  /** Null: it has not called back, and can't be asked. */
  readonly url: string | null;
  readonly apiKey: string;
}

/**
 * Asks all at once. Each series has the port of its worker as one more label: a successor there begins anew, as a
 * counter does whose program was restarted. Those that don't answer are left out.
 */
export async function workerMetrics(
  workers: readonly AskedWorker[],
  { signal }: { signal: AbortSignal },
): Promise<Metric[]> {
  const told = await Promise.all(workers.map((worker) => metricsOf(worker, signal)));
  const byName = new Map<string, ToldMetric>();
  for (const { name, samples, ...head } of told.flat()) {
    const known = byName.get(name);
    byName.set(name, { ...head, name, ...known, samples: [...known?.samples ?? [], ...samples] });
  }
  return [...byName.values()];
}

async function metricsOf({ url, apiKey }: AskedWorker, signal: AbortSignal): Promise<ToldMetric[]> {
  if (url === null) return [];
  const client = new WorkerClient({ baseUrl: url, apiKey });
  let text: string;
  try {
    text = await client.metrics({ signal, timeoutMs: WORKER_METRICS_TIMEOUT_MS });
  } catch {
    signal.throwIfAborted();
    return [];
  }
  // A worker reads models of strangers: what it says is not believed to be of any size, or about anything.
  if (text.length > WORKER_METRICS_MAX_CHARS) return [];
  const { port } = new URL(url);
  return readMetrics(text).filter(({ name }) => name.startsWith(PREFIX)).map((metric) => ({
    ...metric,
    samples: metric.samples.map((sample) => ({ ...sample, labels: { ...sample.labels, port } })),
  }));
}

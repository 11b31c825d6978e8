/** Workers that stand still in the middle of an answer of a cluster. */
import { errorFromBody } from "../../protocol/errors.ts";
import type { TaskEvent } from "../../protocol/queen_schemas.ts";
import { type Cluster, LONG_TEXT, spawned } from "./cluster.ts";

/** Where an answer runs. */
export interface Place {
  readonly node: string;
  readonly workerId: string;
}

/** An answer whose worker was stalled. */
export interface StalledAnswer {
  /** Where it began. */
  readonly at: Place;
  /** Workers that had it. */
  readonly workers: number;
  readonly text: string;
  /** Between the stall and the next token. */
  readonly pauseMs: number;
}

/** What is asked: it takes long enough, also for one who reads late, to be stalled in its middle. */
export function stallableRequest(seed: number) {
  return {
    ...{ model: "builtin:stories", prompt: "Once upon a time", max_tokens: 300, grammar: LONG_TEXT },
    ...{ seed, temperature: 0.9 },
  };
}

/** Starts a worker on each machine. */
export async function oneWorkerEach(cluster: Cluster): Promise<void> {
  for (const node of Object.keys(cluster.hives)) {
    await spawned(cluster, node, { model_ref: stallableRequest(0).model });
  }
}

/** The whole answer, undisturbed. */
export async function uncutAnswer({ queen }: Cluster, seed: number): Promise<string> {
  return textOf(await Array.fromAsync((await queen.client.run(stallableRequest(seed))).events));
}

/** Asks, and stalls the worker that has the answer at its first token. */
export async function askAndStall(
  { queen }: Cluster,
  how: { seed: number; stall: (at: Place) => Promise<void> },
): Promise<StalledAnswer> {
  const told: TaskEvent[] = [];
  const places: Place[] = [];
  let stalledMs: number | undefined;
  let pauseMs = 0;
  for await (const event of (await queen.client.run(stallableRequest(how.seed))).events) {
    told.push(event);
    if (event.type === "error") throw errorFromBody(event.error);
    if (event.type === "started") places.push({ node: event.node, workerId: event.worker_id });
    if (event.type !== "token") continue;
    // Some more may be on their way when the worker stalls.
    if (stalledMs !== undefined && places.length > 1 && pauseMs === 0) {
      pauseMs = performance.now() - stalledMs;
    }
    if (stalledMs !== undefined) continue;
    await how.stall(places[0]);
    stalledMs = performance.now();
  }
  return { at: places[0], workers: places.length, text: textOf(told), pauseMs };
}

function textOf(events: readonly TaskEvent[]): string {
  return events.map((event) => event.type === "token" ? event.token : "").join("");
}

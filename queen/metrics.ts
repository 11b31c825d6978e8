/** `GET /metrics` of a queen. */
import { type Metric, metricsResponse, Tally } from "../daemon/metrics.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { UsageCounts } from "./usage.ts";

const ENDS = ["done", "failed", "canceled"] as const;
const PRESENCES = ["up", "stale", "down"] as const;

/** Counts of what happened. */
export class QueenMetrics {
  readonly #ended = new Tally<(typeof ENDS)[number]>();
  readonly #loads = new Tally<"loaded" | "failed">();
  #heartbeats = 0;
  #moved = 0;

  /** An answer came to its end. */
  ended(how: (typeof ENDS)[number]): void {
    this.#ended.add(how);
  }

  /** An answer was gone on with by another worker. */
  moved(): void {
    this.#moved++;
  }

  /** A hive reported. */
  heartbeat(): void {
    this.#heartbeats++;
  }

  /** A model was loaded on demand, or not. */
  load(how: "loaded" | "failed"): void {
    this.#loads.add(how);
  }

  /** As Prometheus reads it. */
  response(
    now: {
      cluster: Cluster;
      poisoned: ReadonlyMap<string, number>;
      usage: UsageCounts["totals"];
      waiting: number;
      running: number;
    },
  ): Promise<Response> {
    const nodes = [...now.cluster.nodes()];
    const workers = [...now.cluster.workers()];
    const metrics: Metric[] = [
      {
        name: "rbee_queen_answers_total",
        type: "counter",
        help: "Answers that have ended, by how",
        label: "end",
        values: this.#ended,
      },
      {
        name: "rbee_queen_answers_moved_total",
        type: "counter",
        help: "Answers that another worker went on with",
        value: this.#moved,
      },
      {
        name: "rbee_queen_poisoned_total",
        type: "counter",
        help: "Requests that cost workers and were ended for it, by the name of the key",
        label: "key",
        values: now.poisoned,
      },
      {
        name: "rbee_queen_heartbeats_total",
        type: "counter",
        help: "Heartbeats of hives that were taken",
        value: this.#heartbeats,
      },
      {
        name: "rbee_queen_loads_total",
        type: "counter",
        help: "Loads on demand, by how they went",
        label: "result",
        values: this.#loads,
      },
      {
        name: "rbee_queen_waiting",
        type: "gauge",
        help: "Requests that wait for a slot",
        value: now.waiting,
      },
      { name: "rbee_queen_running", type: "gauge", help: "Slots in use by this queen", value: now.running },
      {
        name: "rbee_queen_nodes",
        type: "gauge",
        help: "Machines of the cluster, by presence",
        label: "presence",
        values: PRESENCES.map((presence) =>
          [presence, nodes.filter((node) => node.presence === presence).length] as const
        ),
      },
      {
        name: "rbee_queen_slots",
        type: "gauge",
        help: "Slots of all workers",
        value: workers.reduce((sum, { slots }) => sum + slots, 0),
      },
    ];
    return metricsResponse([...metrics, ...usageMetrics(now.usage)]);
  }
}

const USED = [
  ["rbee_queen_key_requests_total", "requests", "Requests that workers have had, by key"],
  ["rbee_queen_key_read_tokens_total", "read", "Prompt tokens of these, cached ones included, by key"],
  ["rbee_queen_key_cached_tokens_total", "cached", "Prompt tokens whose state a worker still had, by key"],
  ["rbee_queen_key_made_tokens_total", "made", "Tokens generated, by key"],
  ["rbee_queen_key_seconds_total", "seconds", "Time that workers had these requests, by key"],
] as const;

function usageMetrics(usage: UsageCounts["totals"]): Metric[] {
  return USED.map(([name, field, help]) => ({
    ...{ name, help, type: "counter", label: "key" },
    values: [...usage].map(([key, used]) => [key, used[field]] as const),
  }));
}

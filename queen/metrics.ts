/** `GET /metrics` of a queen. */
import { Histogram, type Labels, type Metric, metricsResponse, Tally } from "../daemon/metrics.ts";
import type { ErrorCode } from "../protocol/errors.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { changeOf, PRESENCE_CHANGES, type PresenceChange } from "./cluster/presence.ts";
import type { Wanted } from "./dispatch/lease.ts";
import { METRIC_MODELS_MAX, METRIC_NODES_MAX } from "./limits.ts";
import { OTHERS, type UsageCounts } from "./usage.ts";

const ENDS = ["done", "failed", "canceled"] as const;
const LOAD_RESULTS = ["loaded", "failed"] as const;
const PRESENCES = ["up", "stale", "down"] as const;
/** How present a machine is, as a number. */
const PRESENT = { up: 2, stale: 1, down: 0 } as const;
/** Why reports are usually refused. */
const REFUSALS = ["INVALID_API_KEY", "MISSING_API_KEY", "NODE_NAME_TAKEN", "INVALID_REQUEST"] as const;
const SECONDS_BOUNDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const MS_PER_SECOND = 1_000;

/** What was waited for. */
type Asked = Pick<Wanted, "model" | "priority">;

/** Times of requests, by priority and model. */
class RequestTimes {
  readonly #models: Set<string>;
  readonly #series = new Map<string, [Labels, Histogram]>();

  /** `models`: those that are told apart, here and elsewhere. */
  constructor(models: Set<string>) {
    this.#models = models;
  }

  /** One more. */
  add({ model, priority }: Asked, ms: number): void {
    if (this.#models.size < METRIC_MODELS_MAX) this.#models.add(model);
    const labels = { priority, model: this.#models.has(model) ? model : OTHERS };
    const key = `${priority} ${labels.model}`;
    const [, times] = this.#series.get(key) ?? [labels, new Histogram(SECONDS_BOUNDS)];
    times.observe(Math.max(0, ms) / MS_PER_SECOND);
    this.#series.set(key, [labels, times]);
  }

  /** All of them. */
  get series(): Iterable<readonly [Labels, Histogram]> {
    return this.#series.values();
  }
}

/** Counts of what happened. */
export class QueenMetrics {
  readonly #ended = new Tally(ENDS);
  readonly #loads = new Tally(LOAD_RESULTS);
  readonly #changes = new Tally(PRESENCE_CHANGES);
  readonly #refused = new Tally<ErrorCode>(REFUSALS);
  readonly #waits: RequestTimes;
  readonly #firstTokens: RequestTimes;
  #heartbeats = 0;
  #moved = 0;

  /** Nothing has happened yet. */
  constructor() {
    const models = new Set<string>();
    this.#waits = new RequestTimes(models);
    this.#firstTokens = new RequestTimes(models);
  }

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
  load(how: (typeof LOAD_RESULTS)[number]): void {
    this.#loads.add(how);
  }

  /** Machines came, fell silent, were lost or came back. */
  presences(changes: readonly PresenceChange[]): void {
    for (const change of changes) this.#changes.add(changeOf(change));
  }

  /** A hive's report was refused. */
  reportRefused(code: ErrorCode): void {
    this.#refused.add(code);
  }

  /** A request has its first slot, so long after it came. */
  waited(of: Asked, ms: number): void {
    this.#waits.add(of, ms);
  }

  /** An answer has its first token, so long after it was asked for. */
  firstToken(of: Asked, ms: number): void {
    this.#firstTokens.add(of, ms);
  }

  /** As Prometheus reads it. */
  response(
    now: {
      cluster: Cluster;
      /** Machines that are to run. */
      wanted: readonly string[];
      poisoned: ReadonlyMap<string, number>;
      usage: UsageCounts["totals"];
      waiting: number;
      running: number;
    },
  ): Promise<Response> {
    const nodes = [...now.cluster.nodes()];
    const present = new Map<string, number>(now.wanted.map((name) => [name, PRESENT.down]));
    for (const { name, presence } of nodes) present.set(name, PRESENT[presence]);
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
        name: "rbee_queen_node_presence",
        type: "gauge",
        help: "Each machine that reports or is to run: 2 up, 1 silent, 0 down",
        label: "node",
        values: [...present].slice(0, METRIC_NODES_MAX),
      },
      {
        name: "rbee_queen_node_changes_total",
        type: "counter",
        help: "Machines that came, fell silent, went down, came back or left",
        label: "change",
        values: this.#changes,
      },
      {
        name: "rbee_queen_reports_refused_total",
        type: "counter",
        help: "Reports of hives that were refused, by error code",
        label: "code",
        values: this.#refused,
      },
      {
        name: "rbee_queen_wait_seconds",
        type: "histogram",
        help: "Time from a request to its first slot, by priority and model",
        series: this.#waits.series,
      },
      {
        name: "rbee_queen_first_token_seconds",
        type: "histogram",
        help: "Time from a request to the first token of its answer, by priority and model",
        series: this.#firstTokens.series,
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

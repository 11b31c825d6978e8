/** What a queen is made of; put together in `queen.ts`. */
import type { Logger } from "../daemon/log.ts";
import type { Config } from "../home/config_schema.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { Prefixes } from "./cluster/prefixes.ts";
import type { CommonPrefixes } from "./common_prefixes.ts";
import type { Accounts } from "./accounts.ts";
import type { Keys } from "./keys.ts";
import type { QueenMetrics } from "./metrics.ts";
import type { RecentMap } from "./recent_map.ts";
import type { UsageCounts } from "./usage.ts";
import type { Answers } from "./dispatch/answers.ts";
import type { Charges } from "./dispatch/charges.ts";
import type { Failover } from "./dispatch/failover.ts";
import type { LiveRequests } from "./dispatch/live_requests.ts";
import type { Loads } from "./dispatch/loads.ts";
import type { Offenders } from "./dispatch/offenders.ts";
import type { Scheduler } from "./dispatch/scheduler.ts";

/** The parts. */
export interface QueenParts {
  readonly config: Config["queen"];
  readonly cluster: Cluster;
  readonly prefixes: Prefixes;
  readonly commonPrefixes: CommonPrefixes;
  readonly keys: Keys;
  readonly accounts: Accounts;
  readonly usage: UsageCounts;
  readonly charges: Charges;
  readonly scheduler: Scheduler;
  readonly loads: Loads;
  readonly offenders: Offenders;
  readonly failover: Failover;
  readonly requests: LiveRequests;
  readonly answers: Answers;
  readonly metrics: QueenMetrics;
  /** By session: the worker that had its last request. */
  readonly sessions: RecentMap<string, string>;
  readonly log: Logger;
  /** Milliseconds, only ever forwards. */
  readonly now: () => number;
  readonly startedUnix: number;
}

/** One queen, put together from its parts. */
import { join } from "@std/path";
import type { Logger } from "../daemon/log.ts";
import type { App } from "../daemon/serve.ts";
import type { Config } from "../home/config_schema.ts";
import type { Environment } from "../home/paths.ts";
import { createQueenApp } from "./app.ts";
import { Cluster } from "./cluster/cluster.ts";
import { logPresences } from "./cluster/presence.ts";
import { Prefixes } from "./cluster/prefixes.ts";
import { CommonPrefixes } from "./common_prefixes.ts";
import { Accounts } from "./accounts.ts";
import { Keys } from "./keys.ts";
import { NODE_RESTORE_INTERVAL_MS, SESSIONS_MAX, TICK_INTERVAL_MS } from "./limits.ts";
import { LiveConfig } from "./live_config.ts";
import { QueenMetrics } from "./metrics.ts";
import { Nodes } from "./nodes.ts";
import type { QueenParts } from "./parts.ts";
import { RecentMap } from "./recent_map.ts";
import { RemoteNodes } from "./remote_nodes.ts";
import { Restorer } from "./restorer.ts";
import { homeSeal } from "./store/seal.ts";
import { SqliteStore } from "./store/sqlite_store.ts";
import { UsageCounts } from "./usage.ts";
import { Answers } from "./dispatch/answers.ts";
import { Charges } from "./dispatch/charges.ts";
import { Failover } from "./dispatch/failover.ts";
import { keepLoaded } from "./dispatch/keep_loaded.ts";
import { LiveRequests } from "./dispatch/live_requests.ts";
import { Loads } from "./dispatch/loads.ts";
import { Offenders } from "./dispatch/offenders.ts";
import { Scheduler } from "./dispatch/scheduler.ts";
import { Tasks } from "./dispatch/tasks.ts";

/** What {@linkcode createQueen} needs. */
export interface QueenOptions {
  /** The rbee home; must exist. */
  home: string;
  config: Config;
  /** The queen's own key. */
  apiKey: string;
  env: Environment;
  /** Where other machines reach it; asked when it is needed, because a port may not be known before it is bound. */
  ownUrl: () => string;
  /** Reads the configuration again; absent: it can't be reloaded. */
  loadConfig?: () => Promise<Config>;
  log: Logger;
}

/** A queen. */
export interface Queen {
  readonly app: App;
  readonly parts: QueenParts;
  readonly tasks: Tasks;
  readonly live: LiveConfig;
  /** Goes on with what the last queen left, and with what time alone brings. */
  start(): Promise<void>;
  /** Takes nothing more, and gives what runs a moment to end; tasks are left to the next queen. */
  drain(signal: AbortSignal): Promise<void>;
  /** Stops the hives that this queen or one before it has started. */
  stopHives(): Promise<void>;
  /** The last step. */
  close(): Promise<void>;
}

/** Puts a queen together. Opens its database, and blocks for that; starts nothing. */
export async function createQueen(options: QueenOptions): Promise<Queen> {
  const { home, config, apiKey, env, log } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const now = () => performance.now();
  const store = new SqliteStore(join(home, "queen.db"));
  const seal = await homeSeal(home, env);
  const cluster = new Cluster(now());
  const prefixes = new Prefixes();
  const commonPrefixes = new CommonPrefixes(config.queen.common_prefixes);
  const metrics = new QueenMetrics();
  const wallClock = { store: store.keys, log, now: () => Date.now() };
  const accounts = await Accounts.open(wallClock);
  const usage = new UsageCounts(wallClock);
  const keys = await Keys.open({
    ...{ configured: config.queen.keys, store: store.keys, apiKey, log },
    onLimits: (key, limits) => accounts.limit(key, limits),
  });
  const live = new LiveConfig({
    ...{ config, log, load: options.loadConfig },
    onChange: ({ queen }) => {
      keys.configure(queen.keys);
      commonPrefixes.configure(queen.common_prefixes);
    },
  });
  const kept = (model: string) => live.models[model]?.keep_loaded === true;
  const loads = new Loads({ cluster, now, signal, kept, onEnd: (how) => metrics.load(how) });
  const scheduler = new Scheduler({
    ...{ cluster, log, now },
    queueLimit: config.queen.queue_limit,
    replicateAfterMs: config.queen.replicate_after * 1000,
    startLoad: loads.start,
  });
  const offenders = new Offenders((key) => keys.may(key, "owner"));
  const requests = new LiveRequests();
  const failover = new Failover({
    ...{ cluster, scheduler, offenders, requests, log, now },
    onMoved: () => metrics.moved(),
    onWaited: (of, ms) => metrics.waited(of, ms),
  });
  const answers = new Answers({
    ...{ cluster, failover, prefixes, now },
    onFirstToken: (of, ms) => metrics.firstToken(of, ms),
  });
  const parts: QueenParts = {
    ...{
      config: config.queen,
      cluster,
      prefixes,
      commonPrefixes,
      keys,
      scheduler,
      loads,
      offenders,
      failover,
      requests,
      answers,
    },
    ...{ accounts, usage, charges: new Charges({ accounts, usage, cluster }), metrics, log, now },
    sessions: new RecentMap(SESSIONS_MAX),
    startedUnix: Math.floor(Date.now() / 1000),
  };
  const tasks = new Tasks({ parts, store, seal, log });
  const nodes = new Nodes({ store, cluster, log, now });
  await nodes.restore();
  const remote = new RemoteNodes({
    ...{ nodes, cluster, log, signal, ownUrl: options.ownUrl },
    keyFor: (node) => keys.forHive(node),
  });
  const restorer = new Restorer({ nodes, remote, cluster, log, now, signal });
  let tick: ReturnType<typeof setInterval> | undefined;
  let restoring: ReturnType<typeof setInterval> | undefined;
  return {
    app: createQueenApp({
      ...{ parts, tasks, nodes, remote, live, apiKey, signal },
      notReady: () => signal.aborted ? "The queen is shutting down." : undefined,
    }),
    ...{ parts, tasks, live },
    async start() {
      await tasks.resume();
      restoring = setInterval(() => {
        restorer.look().catch((error) => log.error("machines could not be looked at", { error }));
      }, NODE_RESTORE_INTERVAL_MS);
      await usage.prune();
      tick = setInterval(() => {
        const news = cluster.tick(now());
        metrics.presences(news.presences);
        logPresences(news.presences, log);
        scheduler.changed(news);
        scheduler.tick();
        tasks.tick();
        keepLoaded(live.models, { cluster, loads, log, nowMs: now() });
      }, TICK_INTERVAL_MS);
    },
    async drain(limit) {
      clearInterval(tick);
      clearInterval(restoring);
      stopping.abort();
      scheduler.close();
      await tasks.close();
      // Streams of the front door end with their connections, which the server gives a moment of its own.
      limit.throwIfAborted();
    },
    stopHives: () => remote.stopStarted(),
    async close() {
      await Promise.all([accounts.close(), usage.close()]);
      await store.close();
    },
  };
}

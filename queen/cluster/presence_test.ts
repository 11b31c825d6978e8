import { assertEquals } from "@std/assert";
import { HEARTBEAT_INTERVAL_MS } from "../../protocol/limits.ts";
import { Heartbeat } from "../../protocol/queen_schemas.ts";
import { keptLog } from "../../tests/helpers/log_lines.ts";
import { DOWN_AFTER_HEARTBEATS, STALE_AFTER_HEARTBEATS } from "../limits.ts";
import { Cluster } from "./cluster.ts";
import { logPresences } from "./presence.ts";

const REPORT = {
  ...{ node_name: "mac", instance: "i", hive_url: "http://127.0.0.1:9", api_key: "k", version: "1" },
  ...{ memory: { total_mb: 1, free_mb: 1, reserve_mb: 0 }, workers: [], devices: [], models: [] },
};

Deno.test("a machine that comes, falls silent, is lost, comes back and leaves has one line in the log for each", () => {
  const { log, lines } = keptLog();
  const cluster = new Cluster(0);
  const report = (nowMs: number, leaving = false) =>
    logPresences(cluster.report(Heartbeat.parse({ ...REPORT, leaving }), nowMs).presences, log);
  let nowMs = 1;
  const tickUntil = (missed: number) => {
    for (; nowMs <= 1 + missed * HEARTBEAT_INTERVAL_MS; nowMs += 500) {
      logPresences(cluster.tick(nowMs).presences, log);
    }
  };
  report(0);
  report(1);
  tickUntil(STALE_AFTER_HEARTBEATS + 1);
  tickUntil(DOWN_AFTER_HEARTBEATS + 1);
  report(100_000);
  report(100_001);
  report(100_002, true);
  assertEquals(lines.map(({ level, message, node }) => `${level} ${node}: ${message}`), [
    "info mac: machine reports",
    "warn mac: machine is silent: nothing new goes there",
    "warn mac: machine is down: its workers are lost",
    "info mac: machine is back",
    "info mac: machine has left",
  ]);
  assertEquals(cluster.node("mac")!.sinceMs, 100_002);
});

import { assert, assertEquals } from "@std/assert";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { RbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import type { ClusterNode } from "./cluster/cluster_node.ts";
import { NODE_RESTORE_PAUSES_MS } from "./limits.ts";
import { Restorer } from "./restorer.ts";
import type { StoredNode } from "./store/store.ts";

const GPU: StoredNode = {
  ...{ name: "gpu", sshHost: "gpu.lan", sshPort: 22, sshUser: null, installPath: null, hiveUrl: null },
  ...{ lastConnectedUnix: null, lastError: null, status: "unknown", backends: [], devices: [] },
  ...{ running: true, version: null, cordoned: false, labels: [] },
};

/** A restorer whose machine fails or comes back as is said. */
function bed(node: StoredNode, options: { fails?: boolean } = {}) {
  const { log, lines } = keptLog();
  const done: string[] = [];
  let live: Pick<ClusterNode, "presence" | "version"> | undefined;
  let nowMs = 0;
  const act = (what: string) => (name: string) => {
    done.push(`${what} ${name}`);
    return options.fails
      ? Promise.reject(new RbeeError("NODE_UNREACHABLE", "It is off."))
      : Promise.resolve();
  };
  const restorer = new Restorer({
    nodes: { stored: () => Promise.resolve([node]) },
    remote: { start: act("start"), install: act("install"), isBusy: () => false },
    cluster: { node: () => live as ClusterNode | undefined, settling: false },
    ...{ log, now: () => nowMs, signal: new AbortController().signal },
  });
  return {
    ...{ done, lines },
    is: (as: typeof live) => live = as,
    /** Time passes, and what began meanwhile is over. */
    async after(ms: number) {
      nowMs += ms;
      await restorer.look();
      for (let turn = 0; turn < 10; turn++) await Promise.resolve();
    },
  };
}

Deno.test("a hive that is to run and does not report is started after a moment, and not while it is only late", async () => {
  const at = bed(GPU);
  await at.after(0);
  assertEquals(at.done, []);
  at.is({ presence: "stale", version: VERSION });
  await at.after(NODE_RESTORE_PAUSES_MS[0]);
  assertEquals(at.done, []);
  at.is({ presence: "down", version: VERSION });
  await at.after(0);
  await at.after(NODE_RESTORE_PAUSES_MS[0]);
  assertEquals(at.done, ["start gpu"]);
  at.is({ presence: "up", version: VERSION });
  await at.after(1e9);
  assertEquals(at.done, ["start gpu"]);
});

Deno.test("what fails is tried again after longer and longer pauses, with a line each, and then left alone", async () => {
  const at = bed(GPU, { fails: true });
  await at.after(0);
  for (const pauseMs of NODE_RESTORE_PAUSES_MS) await at.after(pauseMs);
  assertEquals(at.done.length, NODE_RESTORE_PAUSES_MS.length);
  assertEquals(at.lines.length, NODE_RESTORE_PAUSES_MS.length);
  assertEquals(at.lines.map(({ next_seconds }) => next_seconds).slice(0, 2), [30, 60]);
  assertEquals(at.lines.at(-1)!.next_seconds, undefined);
  await at.after(1e12);
  assertEquals(at.done.length, NODE_RESTORE_PAUSES_MS.length);
  assert(NODE_RESTORE_PAUSES_MS.every((pauseMs, i) => i === 0 || pauseMs >= NODE_RESTORE_PAUSES_MS[i - 1]));
});

Deno.test("a machine is upgraded to what was to be there, never down, and nothing is done without a wish or a way", async () => {
  const reports = async (node: StoredNode, version: string) => {
    const at = bed(node);
    at.is({ presence: "up", version });
    await at.after(0);
    await at.after(NODE_RESTORE_PAUSES_MS[0]);
    return at.done;
  };
  const wanted = { ...GPU, version: VERSION };
  assertEquals(await reports(wanted, "0.0.1"), ["install gpu"]);
  assertEquals(await reports(wanted, VERSION), []);
  assertEquals(await reports(wanted, "999.0.0"), []);
  assertEquals(await reports({ ...GPU, version: "999.0.0" }, "0.0.1"), [], "this queen has another to send");
  for (const without of [{ running: false }, { sshHost: null }]) {
    const at = bed({ ...GPU, ...without });
    await at.after(0);
    await at.after(1e9);
    assertEquals(at.done, []);
  }
});

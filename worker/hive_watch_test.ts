import { assert, assertEquals } from "@std/assert";
import { HiveWatch } from "./hive_watch.ts";

/** A watch of ten seconds whose time is moved by hand. */
function watch(options: { busy?: () => boolean } = {}) {
  let passed = () => {};
  let everyMs = 0;
  let stopped = false;
  const watch = new HiveWatch({
    timeoutMs: 10_000,
    busy: options.busy ?? (() => false),
    every(ms, task) {
      everyMs = ms;
      passed = task;
      return () => stopped = true;
    },
  });
  let silent = false;
  watch.silent.then(() => silent = true);
  return {
    watch,
    get stopped() {
      return stopped;
    },
    /** Whether the hive counts as gone after so much more time. */
    async after(ms: number): Promise<boolean> {
      for (let rest = ms; rest > 0; rest -= everyMs) passed();
      await Promise.resolve();
      return silent;
    },
  };
}

Deno.test("a hive that says nothing for the whole time is gone, and not before", async () => {
  const at = watch();
  assertEquals(await at.after(9_500), false);
  assertEquals(await at.after(500), true);
});

Deno.test("every sign of the hive starts the time anew", async () => {
  const at = watch();
  for (let sign = 0; sign < 5; sign++) {
    assertEquals(await at.after(9_500), false);
    at.watch.heard();
  }
  assertEquals(await at.after(10_000), true);
});

Deno.test("what runs is finished first, and a hive that comes back meanwhile is in time", async () => {
  let busy = true;
  const at = watch({ busy: () => busy });
  assertEquals(await at.after(60_000), false);
  at.watch.heard();
  busy = false;
  assertEquals(await at.after(500), false);
  assertEquals(await at.after(9_500), true);
});

Deno.test("a watch that is over leaves no timer", () => {
  const at = watch();
  at.watch[Symbol.dispose]();
  assert(at.stopped);
});

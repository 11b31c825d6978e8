import { assertEquals, assertRejects } from "@std/assert";
import { FakeClock } from "../tests/helpers/fake_clock.ts";
import { deadline, settlesWithin, sleep, systemClock, unixSeconds } from "./clock.ts";

Deno.test("sleep ends with its time and not before", async () => {
  const clock = new FakeClock();
  let awake = false;
  const slept = sleep(clock, 1000, new AbortController().signal).then(() => awake = true);
  clock.advance(999);
  await Promise.resolve();
  assertEquals(awake, false);
  clock.advance(1);
  await slept;
});

Deno.test("sleep rejects with the reason of its signal and takes its timer back", async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const slept = sleep(clock, 1000, stop.signal);
  stop.abort(new Error("enough"));
  await assertRejects(() => slept, Error, "enough");
  await assertRejects(() => sleep(clock, 1, stop.signal), Error, "enough");
});

Deno.test("a deadline aborts by its time, by the outer signal, and not after its scope", () => {
  const clock = new FakeClock();
  const outer = new AbortController();
  const signals: AbortSignal[] = [];
  {
    using short = deadline(clock, 10);
    using long = deadline(clock, 1000, outer.signal);
    signals.push(short.signal, long.signal);
    clock.advance(10);
    assertEquals(signals.map(({ aborted }) => aborted), [true, false]);
    outer.abort();
    assertEquals(long.signal.aborted, true);
  }
  {
    using left = deadline(clock, 10);
    signals.push(left.signal);
  }
  clock.advance(1000);
  assertEquals(signals[2].aborted, false);
});

Deno.test("settlesWithin tells whether a promise was in time", async () => {
  const clock = new FakeClock();
  assertEquals(await settlesWithin(Promise.resolve(1), { clock, ms: 10 }), true);
  const late = settlesWithin(new Promise(() => {}), { clock, ms: 10 });
  clock.advance(10);
  assertEquals(await late, false);
  assertEquals(
    await settlesWithin(new Promise(() => {}), { clock, ms: 10, signal: AbortSignal.abort() }),
    false,
  );
});

Deno.test("the system clock waits for a year without firing at once", async () => {
  let fired = false;
  const cancel = systemClock.after(365 * 24 * 3600 * 1000, () => fired = true);
  await new Promise<void>((resolve) => systemClock.after(5, resolve));
  cancel();
  assertEquals(fired, false);
});

Deno.test("seconds are whole ones since 1970", () => {
  const clock = new FakeClock();
  clock.advance(1999);
  assertEquals(unixSeconds(clock), Date.UTC(2030, 0, 1) / 1000 + 1);
});

import { assert, assertEquals } from "@std/assert";
import { Bandwidth } from "./bandwidth.ts";
import type { Timing } from "./timing.ts";

function fakeTiming(): Timing & { ms: number } {
  const timing = {
    ms: 0,
    now: () => timing.ms,
    random: () => 0,
    delay(ms: number) {
      timing.ms += ms;
      return Promise.resolve();
    },
  };
  return timing;
}

const { signal } = new AbortController();

Deno.test("a cap holds over many pieces", async () => {
  const timing = fakeTiming();
  const bandwidth = new Bandwidth(10, timing);
  for (let piece = 0; piece < 1000; piece++) await bandwidth.take(50_000, signal);
  // 50 MB at 10 MB/s, less the burst.
  assert(timing.ms >= 4_900 && timing.ms <= 5_000, `${timing.ms} ms`);
});

Deno.test("quiet time is not saved up", async () => {
  const timing = fakeTiming();
  const bandwidth = new Bandwidth(1, timing);
  timing.ms = 1_000_000;
  await bandwidth.take(2_000_000, signal);
  assert(timing.ms >= 1_001_900, `${timing.ms} ms`);
});

Deno.test("without a cap nothing waits", async () => {
  const timing = fakeTiming();
  await new Bandwidth(undefined, timing).take(1e12, signal);
  assertEquals(timing.ms, 0);
});

import { assert, assertEquals } from "@std/assert";
import { ProgressMeter, type ProgressMeterOptions } from "./progress_meter.ts";

type Shown = Parameters<ProgressMeterOptions["emit"]>[0];

function startMeter(options: { totalBytes: number; doneBytes?: number }) {
  const shown: Shown[] = [];
  const clock = { ms: 0 };
  const meter = new ProgressMeter({
    doneBytes: 0,
    ...options,
    intervalMs: 125,
    timing: { now: () => clock.ms, random: () => 0, delay: () => Promise.resolve() },
    emit: (event) => shown.push(event),
  });
  return { meter, shown, clock };
}

Deno.test("at most ten events in any second, however many pieces come", () => {
  const { meter, shown, clock } = startMeter({ totalBytes: 1e9 });
  const times: number[] = [];
  for (let piece = 1; piece <= 50_000; piece++) {
    clock.ms += 0.1;
    const before = shown.length;
    meter.update(piece * 1000);
    if (shown.length > before) times.push(clock.ms);
  }
  assert(times.length >= 35, `${times.length} events in 5 s`);
  for (const start of times) {
    assert(times.filter((time) => time >= start && time < start + 1000).length <= 10);
  }
});

Deno.test("speed and time left come from what was fetched here", () => {
  const { meter, shown, clock } = startMeter({ totalBytes: 100_000_000, doneBytes: 50_000_000 });
  assertEquals(shown[0], { stage: "downloading", bytes_downloaded: 50e6, bytes_total: 100e6, speed_mbps: 0 });
  clock.ms = 1000;
  meter.update(60_000_000);
  assertEquals(shown[1], {
    ...{ stage: "downloading", bytes_downloaded: 60e6, bytes_total: 100e6 },
    ...{ speed_mbps: 10, eta_seconds: 4 },
  });
});

Deno.test("a hiccup does not throw the speed about", () => {
  const { meter, shown, clock } = startMeter({ totalBytes: 1e9 });
  for (let step = 1; step <= 40; step++) {
    clock.ms += 125;
    meter.update(step * 1_250_000);
  }
  clock.ms += 125;
  meter.update(40 * 1_250_000);
  const speed = shown.at(-1)!.speed_mbps;
  assert(speed > 9 && speed < 10, `${speed} MB/s`);
});

Deno.test("the last state is shown once, however soon", () => {
  const { meter, shown, clock } = startMeter({ totalBytes: 1000 });
  clock.ms = 1;
  meter.update(1000);
  meter.flush();
  meter.flush();
  assertEquals(shown.map((event) => event.bytes_downloaded), [0, 1000]);
});

Deno.test("starting again from nothing gives no negative speed", () => {
  const { meter, shown, clock } = startMeter({ totalBytes: 1e6, doneBytes: 5e5 });
  clock.ms = 200;
  meter.update(0);
  assertEquals(shown.at(-1), { stage: "downloading", bytes_downloaded: 0, bytes_total: 1e6, speed_mbps: 0 });
});

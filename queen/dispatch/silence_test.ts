import { assertEquals } from "@std/assert";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import { overdueMs, tokenWatch } from "./silence.ts";

function timingOf(clock: FakeClock) {
  return { now: () => clock.elapsedMs, after: (ms: number, task: () => void) => clock.after(ms, task) };
}

/** A watch in a time that is moved by hand, over a worker that goes on for as long as `works` says. */
function watched() {
  const clock = new FakeClock();
  const state = { works: true, asked: 0 };
  const isWorking = () => {
    state.asked++;
    return Promise.resolve(state.works);
  };
  return { clock, state, watch: tokenWatch(isWorking, timingOf(clock)) };
}

/** How long it takes until the watch gives up, to 100 ms; undefined when that is not within a minute. */
async function patience({ clock, watch }: ReturnType<typeof watched>): Promise<number | undefined> {
  for (let ms = 0; ms <= 60_000; ms += 100) {
    if (watch.signal.aborted) return ms;
    await clock.run(100);
  }
  return undefined;
}

Deno.test("a worker that is frozen at any moment of an answer is given up within seconds", async () => {
  // While it reads; after its first token, when no gap is known; later, at 50 tokens a second and at one in 2 s.
  for (
    const [tokens, gapMs, limitMs] of [[0, 0, 5_000], [1, 0, 2_000], [30, 20, 2_000], [9, 2_000, 20_000]]
  ) {
    const at = watched();
    using watch = at.watch;
    watch.begin();
    for (let i = 0; i < tokens; i++) {
      await at.clock.run(gapMs);
      watch.alive();
    }
    at.state.works = false;
    assertEquals(await patience(at), limitMs, `${tokens} tokens, one in ${gapMs} ms`);
  }
});

Deno.test("a worker that says it goes on is waited for, and asked no more often than its tokens are overdue", async () => {
  const at = watched();
  using watch = at.watch;
  watch.begin();
  assertEquals(await patience(at), undefined);
  const whileReading = at.state.asked;
  assertEquals(whileReading, 12);
  watch.alive();
  assertEquals(await patience(at), undefined);
  assertEquals(at.state.asked - whileReading, 30);
});

Deno.test("a token that comes while the worker is asked counts, whatever it would have said", async () => {
  const clock = new FakeClock();
  const answer = Promise.withResolvers<boolean>();
  using watch = tokenWatch(() => answer.promise, timingOf(clock));
  watch.begin();
  await clock.run(5_000);
  watch.alive();
  answer.resolve(false);
  await clock.run(0);
  assertEquals(watch.signal.aborted, false);
});

Deno.test("after its end nobody is asked any more", async () => {
  const { clock, state, watch } = watched();
  watch.begin();
  watch[Symbol.dispose]();
  await clock.run(60_000);
  assertEquals([state.asked, clock.pending], [0, 0]);
});

Deno.test("the next token is overdue after ten times what is usual, within 2 and 30 s", () => {
  assertEquals([undefined, 20, 500, 60_000].map(overdueMs), [2_000, 2_000, 5_000, 30_000]);
});

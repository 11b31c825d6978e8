import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { MODEL_LIMITS } from "./limits.ts";
import { type Failure, parseRetryAfter, planRetry, type RetryHistory } from "./retry_plan.ts";

const RESET: Failure = { kind: "network", reason: "connection reset" };

function plan(failure: Partial<Failure>, history: Partial<RetryHistory> = {}) {
  const whole = { attempt: 1, mismatches: 0, random: 0.5, ...history };
  return planRetry({ ...RESET, ...failure }, whole, { limits: MODEL_LIMITS });
}

function delays(random: number): (number | undefined)[] {
  return [1, 2, 3, 4, 5, 6].map((attempt) => {
    const decision = plan({}, { attempt, random });
    return decision.action === "retry" ? decision.delayMs : undefined;
  });
}

Deno.test("pauses double from 100 ms, and the sixth attempt is the last", () => {
  assertEquals(delays(0.5), [100, 200, 400, 800, 1600, undefined]);
});

Deno.test("jitter halves a pause at the least and adds half at the most", () => {
  assertEquals(delays(0), [50, 100, 200, 400, 800, undefined]);
  assertEquals(delays(0.999999), [150, 300, 600, 1200, 2400, undefined]);
});

Deno.test("no pause before jitter is longer than the limit", () => {
  const limits = { ...MODEL_LIMITS, maxAttempts: 100 };
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 99 }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (attempt, random) => {
        const decision = planRetry(RESET, { attempt, mismatches: 0, random }, { limits });
        assert(decision.action === "retry");
        assert(decision.delayMs >= 50 && decision.delayMs <= 4800);
      },
    ),
  );
});

Deno.test("only statuses that may pass are tried again", () => {
  const action = (status: number) => plan({ kind: "status", status }).action;
  assertEquals([400, 401, 403, 404, 410, 416, 451].map(action), Array(7).fill("give_up"));
  assertEquals([408, 425, 429, 500, 502, 503, 504].map(action), Array(7).fill("retry"));
});

Deno.test("Retry-After lengthens a pause, never shortens it, and is bounded", () => {
  const delayMs = (retryAfterMs: number) => {
    const decision = plan({ kind: "status", status: 429, retryAfterMs });
    return decision.action === "retry" ? decision.delayMs : undefined;
  };
  assertEquals(delayMs(5_000), 5_000);
  assertEquals(delayMs(10), 100);
  assertEquals(delayMs(86_400_000), MODEL_LIMITS.maxRetryAfterMs);
});

Deno.test("wrong bytes are fetched once more, not oftener", () => {
  assertEquals(plan({ kind: "mismatch" }, { mismatches: 1 }).action, "retry");
  assertEquals(plan({ kind: "mismatch" }, { mismatches: 2 }).action, "give_up");
});

Deno.test("an attempt that brought much counts as the first", () => {
  const gainedBytes = MODEL_LIMITS.fruitfulBytes;
  const decision = plan({ gainedBytes }, { attempt: 6 });
  assert(decision.action === "retry");
  assertEquals([decision.attempt, decision.delayMs], [2, 100]);
  assertEquals(plan({ gainedBytes: gainedBytes - 1 }, { attempt: 6 }).action, "give_up");
});

Deno.test("every decision says why", () => {
  assertEquals(plan({}).reason, "connection reset");
  assertEquals(plan({}, { attempt: 6 }).reason, "connection reset, after 6 attempts");
});

Deno.test("Retry-After is read as seconds or as a date", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  assertEquals(parseRetryAfter("120", now), 120_000);
  assertEquals(parseRetryAfter("Thu, 01 Jan 2026 00:00:30 GMT", now), 30_000);
  assertEquals(parseRetryAfter("Wed, 31 Dec 2025 23:00:00 GMT", now), 0);
  assertEquals(parseRetryAfter("soon", now), undefined);
  assertEquals(parseRetryAfter(null, now), undefined);
});

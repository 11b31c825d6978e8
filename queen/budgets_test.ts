import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { Account, type KeptBudget, type Limit, type Reservation } from "./budgets.ts";

const MINUTE: Limit = { name: "tokens_per_minute", size: 600, periodMs: 60_000 };
const DAY: Limit = { name: "tokens_per_day", size: 2_000, periodMs: 86_400_000 };

function account(limits: readonly Limit[], nowMs = 0) {
  const clock = { nowMs };
  const made = new Account(() => clock.nowMs);
  made.limit(limits);
  return { account: made, clock };
}

Deno.test("what is reserved is not there for others, and comes back when its request took less", () => {
  const { account: budget } = account([DAY]);
  const first = budget.reserve("a", 1_500);
  const shortage = budget.shortage(600)!;
  assertEquals([shortage.used, shortage.held, shortage.freedByEnds], [0, 1_500, true]);
  first.settle(100);
  assertEquals(budget.shortage(1_900), undefined);
  assertEquals(budget.shortage(1_901)!.freedByEnds, false);
});

Deno.test("a reservation is settled once, whoever says so again", () => {
  const { account: budget } = account([DAY]);
  const reservation = budget.reserve("a", 500);
  reservation.settle(300);
  reservation.settle(2_000);
  reservation.correct(2_000);
  assertEquals(budget.kept()[0].used, 300);
  assertEquals(budget.shortage(1_700), undefined);
});

Deno.test("after the time that a shortage names there is enough, and not a moment before", () => {
  const { account: budget, clock } = account([MINUTE]);
  budget.reserve("a", 600).settle(500);
  const { waitMs } = budget.shortage(250)!;
  assertEquals(waitMs, 15_000);
  clock.nowMs = waitMs - 1;
  assert(budget.shortage(250) !== undefined);
  clock.nowMs = waitMs;
  assertEquals(budget.shortage(250), undefined);
});

Deno.test("what is larger than a whole budget is never enough, and that goes before what may come", () => {
  const { account: budget } = account([MINUTE, DAY]);
  budget.reserve("a", 600).settle(600);
  assertEquals([budget.shortage(700)!.limit.name, budget.shortage(700)!.waitMs], [
    "tokens_per_minute",
    Infinity,
  ]);
  assert(Number.isFinite(budget.shortage(600)!.waitMs));
});

Deno.test("a limit that is changed keeps what was used of it, a clock that is set back gives nothing", () => {
  const { account: budget, clock } = account([DAY], 1e9);
  budget.reserve("a", 2_000).settle(1_500);
  clock.nowMs = 0;
  assertEquals(budget.shortage(600)!.used, 1_500);
  budget.limit([{ ...DAY, size: 4_000 }]);
  assertEquals(budget.shortage(2_500), undefined);
  assertEquals(budget.shortage(2_501)!.used, 1_500);
});

/** One step in the life of a key. */
const Step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ act: fc.constant("request" as const), amount: fc.integer({ min: 1, max: 900 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      act: fc.constantFrom("done" as const, "canceled" as const, "failed" as const),
      which: fc.nat(),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ act: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ act: fc.constantFrom("flush" as const, "restart" as const, "crash" as const) }),
  },
);

const LIMITS = [{ ...MINUTE, size: 1_000 }, { ...DAY, size: 20_000 }];

/** A key, its requests, and what a store holds of them. */
class Life {
  nowMs = 1;
  /** What requests got, and when that was certain. */
  readonly got: { atMs: number; tokens: number; reserved: number }[] = [];
  #account = this.#made([]);
  #running: Reservation[] = [];
  #stored: { kept: KeptBudget[]; held: { id: string; amount: number }[] } = { kept: [], held: [] };
  requests = 0;

  request(amount: number): void {
    this.requests++;
    if (this.#account.shortage(amount) !== undefined) return;
    this.#running.push(
      this.#account.reserve(`${this.requests % 2 === 0 ? "task" : "direct"}-${this.requests}`, amount),
    );
    // An admission is written before its request runs; everything else in its own time.
    this.flush();
  }

  end(which: number, part: number): void {
    if (this.#running.length === 0) return;
    const [reservation] = this.#running.splice(which % this.#running.length, 1);
    const { amount } = reservation;
    const tokens = Math.round(amount * part);
    reservation.settle(tokens);
    this.got.push({ atMs: this.nowMs, tokens, reserved: amount });
  }

  flush(): void {
    const held = this.#running.map(({ id, amount }) => ({ id, amount }));
    this.#stored = { kept: this.#account.kept(), held };
  }

  /** Another process goes on with what the store holds. */
  restart(): void {
    const tasks = this.#running.filter(({ id }) => id.startsWith("task"));
    // What was direct is lost; it may have made all of its tokens a moment ago.
    for (const { amount } of this.#running.filter((each) => !tasks.includes(each))) {
      this.got.push({ atMs: this.nowMs, tokens: amount, reserved: amount });
    }
    this.#account = this.#made(this.#stored.kept);
    this.#running = [];
    for (const { id, amount } of this.#stored.held) {
      // What is not gone on with is charged as a whole: nobody knows any more how far it had come.
      if (tasks.some((task) => task.id === id)) this.#running.push(this.#account.reserve(id, amount));
      else this.#account.use(amount);
    }
    this.flush();
  }

  #made(kept: readonly KeptBudget[]): Account {
    const account = new Account(() => this.nowMs);
    account.limit(LIMITS, kept);
    return account;
  }
}

Deno.test("10,000 random requests, cancels, failures, restarts and crashes get no key more than its budget", () => {
  let requests = 0;
  fc.assert(
    fc.property(fc.array(Step, { minLength: 250, maxLength: 250 }), (steps) => {
      const life = new Life();
      for (const step of steps) {
        if (step.act === "request") life.request(step.amount);
        else if (step.act === "wait") life.nowMs += step.ms;
        else if (step.act === "flush") life.flush();
        else if (step.act === "crash") life.restart();
        else if ("which" in step) life.end(step.which, step.act === "done" ? 1 : step.part);
        else life.flush(), life.restart();
      }
      requests += life.requests;
      const { got } = life;
      for (const { name, size, periodMs } of LIMITS) {
        for (let from = 0; from < got.length; from++) {
          let sum = 0;
          for (let to = from; to < got.length; to++) {
            sum += got[to].tokens;
            const passedMs = got[to].atMs - got[from].atMs;
            const allowed = size * (1 + passedMs / periodMs) + got[to].reserved;
            if (sum > allowed + 1e-3) throw new Error(`${name}: ${sum} in ${passedMs} ms, of ${allowed}`);
          }
        }
      }
    }),
    { numRuns: 150 },
  );
  assert(requests >= 10_000, `only ${requests} requests`);
});

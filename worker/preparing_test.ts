/** What requests bring before they are computed: never on this thread, bounded, canceled with its caller, ended at close. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import { GenerationOptions } from "../protocol/worker_requests.ts";
import { answer, loadEngine } from "../tests/helpers/engine.ts";
import { withValue } from "../tests/helpers/gguf_damage.ts";
import { encodeGguf, ggufArray } from "../tests/helpers/gguf_format.ts";
import { llamaVocab } from "../tests/helpers/gguf_vocab.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "../tests/helpers/gguf_writer.ts";
import { STORIES } from "../tests/helpers/test_models.ts";
import type { Engine, Generation } from "./engine.ts";

const signal = new AbortController().signal;
/** About a megabyte each, of what a vocabulary of English stories has no tokens for. */
const HARD_TEXTS = {
  flags: "🇩🇪🇫🇷".repeat(65_000),
  hangul: "안녕하세요".repeat(70_000),
  thai: "กำลัง".repeat(70_000),
  zalgo: "a\u0301\u0316\u0361".repeat(150_000),
  special: "<s></s><unk>".repeat(80_000),
  angle: "<".repeat(1_000_000),
  spaces: " \t".repeat(500_000),
};

async function withEngine(work: (engine: Engine) => Promise<void>): Promise<void> {
  const engine = await loadEngine(STORIES);
  try {
    await work(engine);
  } finally {
    await engine.close();
  }
}

/** A turn of the event loop. */
function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

for (const [name, text] of Object.entries(HARD_TEXTS)) {
  Deno.test(`a megabyte of ${name} is tokenised beside everything else, and small texts overtake it`, () =>
    withEngine(async (engine) => {
      const order: string[] = [];
      const large = engine.tokenize(text, { signal }).then((ids) => {
        order.push("large");
        return ids;
      });
      await turn();
      order.push("turn");
      await engine.tokenize("Once upon a time", { signal });
      order.push("small");
      assert((await large).length > 1000);
      assertEquals(order, ["turn", "small", "large"]);
    }));
}

Deno.test("a text in pieces has the tokens of the whole, whatever it is made of", () =>
  withEngine(async (engine) => {
    for (const text of Object.values(HARD_TEXTS)) {
      const short = text.slice(0, 3000);
      const ids = await engine.tokenize(short, { addSpecial: false, signal });
      const back = await engine.detokenize(ids, signal);
      assert(back.trim() === short.trim(), `"${back.slice(0, 40)}" for "${short.slice(0, 40)}"`);
    }
  }));

Deno.test("whoever leaves while a text is tokenised waits no longer, and the next one's turn comes", () =>
  withEngine(async (engine) => {
    const leave = new AbortController();
    const left = [1, 2, 3].map(() => engine.tokenize("😀".repeat(500_000), { signal: leave.signal }));
    const next = engine.tokenize("b".repeat(100_000), { signal });
    await turn();
    const outcomes = Promise.allSettled(left);
    leave.abort(new Error("left"));
    for (const outcome of await outcomes) {
      assertEquals(outcome.status === "rejected" && outcome.reason.message, "left");
    }
    assert((await next).length > 0);
  }));

Deno.test("a text of more bytes than any prompt can have is refused before it takes memory", () =>
  withEngine(async (engine) => {
    const error = await assertRejects(
      () => engine.tokenize("😀".repeat(4_000_000), { signal }),
      RbeeError,
    );
    assertEquals(error.code, "INVALID_REQUEST");
    assertStringIncludes(error.message, "16000000 bytes");
  }));

Deno.test("a canceled request ends while it is prepared or waits for that, and its slot is free", () =>
  withEngine(async (engine) => {
    const blocked = engine.tokenize("😀".repeat(500_000), { signal });
    const endings: (string | undefined)[] = [];
    const generations: Generation[] = [];
    const ends = ["deadline", "canceled"].map((reason) =>
      new Promise<void>((resolve, reject) => {
        const work = { ...GenerationOptions.parse({}), prompt: "word ".repeat(40_000) };
        const generation = engine.generate(work, {
          tokens: () => {},
          done: ({ stop_reason }) => {
            endings.push(stop_reason);
            resolve();
          },
          failed: reject,
        });
        generation.accepted.catch(reject);
        generations.push(generation);
        generation.cancel(reason as "deadline" | "canceled");
      })
    );
    await Promise.all(ends);
    assertEquals(endings.toSorted(), ["canceled", "deadline"]);
    assertEquals(engine.slotsAvailable, engine.slots);
    await blocked;
  }));

Deno.test("more than may wait is refused at once, and an answer goes on meanwhile", () =>
  withEngine(async (engine) => {
    const leave = new AbortController();
    const text = "字".repeat(300_000);
    const asked = Array.from({ length: 400 }, () => engine.tokenize(text, { signal: leave.signal }));
    const outcomes = Promise.allSettled(asked);
    const { stats } = await answer(engine, { prompt: "Once upon a time", max_tokens: 40, temperature: 0 });
    assertEquals(stats.total_tokens, 40);
    leave.abort(new Error("left"));
    const refused = (await outcomes).filter((outcome) =>
      outcome.status === "rejected" && outcome.reason instanceof RbeeError
    );
    assert(refused.length > 100, String(refused.length));
    for (const { reason } of refused as PromiseRejectedResult[]) assertEquals(reason.code, "QUEUE_FULL");
  }));

Deno.test("closing while much is prepared ends all of it, every time", async () => {
  for (let round = 0; round < 12; round++) {
    const engine = await loadEngine(STORIES);
    const work = { ...GenerationOptions.parse({}), prompt: "tale ".repeat(2_000 * (round + 1)) };
    const asked: Promise<unknown>[] = [
      engine.tokenize("😀".repeat(100_000), { signal }),
      engine.detokenize(new Int32Array(200_000).fill(300), signal),
      ...[1, 2].map(() => engine.generate(work, { tokens() {}, done() {}, failed() {} }).accepted),
      ...[1, 2, 3].map((i) => engine.tokenize("text ".repeat(30_000 * i), { signal })),
      engine.renderChat({ messages: [{ role: "user", content: "hello ".repeat(50_000) }] }, signal),
    ];
    const outcomes = Promise.allSettled(asked);
    if (round % 3 > 0) await turn();
    await engine.close();
    for (const outcome of await outcomes) {
      if (outcome.status === "rejected") assert(outcome.reason instanceof RbeeError, String(outcome.reason));
    }
    await assertRejects(() => engine.tokenize("late", { signal }), RbeeError);
  }
});

Deno.test("a vocabulary without one of its bytes is an error of that text alone", async () => {
  const good = llamaGgufParts(TINIEST_LLAMA);
  const vocab = llamaVocab(TINIEST_LLAMA.vocab);
  const tokens = vocab.tokens.map((token) => token === "<0x01>" ? "<0xx1>" : token);
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  await Deno.writeFile(path, encodeGguf(withValue(good, "tokenizer.ggml.tokens", ggufArray("str", tokens))));
  try {
    const engine = await loadEngine(path);
    try {
      for (
        const attempt of [
          () => engine.tokenize("a\u0001b", { signal }),
          () => answer(engine, { prompt: "\u0001", max_tokens: 4 }),
          () => answer(engine, { prompt: "x".repeat(2_000) + "\u0001", max_tokens: 4 }),
        ]
      ) await assertRejects(attempt, RbeeError);
      assert((await engine.tokenize("ab", { signal })).length > 0);
      assertEquals(engine.slotsAvailable, engine.slots);
    } finally {
      await engine.close();
    }
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("a bias for a token that the vocabulary does not have is refused", () =>
  withEngine(async (engine) => {
    const error = await assertRejects(
      () => answer(engine, { prompt: "Once", logit_bias: [{ token: 1_000_000, bias: 1 }] }),
      RbeeError,
    );
    assertStringIncludes(error.message, "1000000");
  }));

import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { PREFIX_BLOCKS_MAX, PREFIX_CHARS_MAX, PREFIXES_MAX } from "../limits.ts";
import { Prefixes, promptTextOf } from "./prefixes.ts";

const raw = (prompt: string) => promptTextOf("m", { request: { prompt }, scope: "s" });

Deno.test("a text has a beginning in common with another as far as they are the same, and few in all", () => {
  const long = "once upon ".repeat(PREFIX_CHARS_MAX / 5);
  for (const sameChars of [0, 100, 256, 5_000, 300_000]) {
    const [one, other] = [raw(long), raw(`${long.slice(0, sameChars)}!${long.slice(sameChars + 1)}`)];
    const hashes = new Set(other.beginnings.map(({ hash }) => hash));
    const common = one.beginnings.filter(({ hash }) => hashes.has(hash)).map(({ chars }) => chars);
    const most = common.at(-1) ?? 0;
    assert(most <= sameChars && most >= sameChars * 15 / 17 - 256, `${most} of ${sameChars}`);
    assert(one.beginnings.length < 120, `${one.beginnings.length} beginnings`);
  }
  assertEquals(raw(long).chars, long.length);
});

Deno.test("other models and scopes have no beginning in common, nor do other turns of a conversation", () => {
  const messages = [{ role: "user", content: "Once" }, { role: "assistant", content: "upon" }];
  const of = (model: string, scope: string, all = messages) =>
    promptTextOf(model, { request: { messages: all }, scope }).beginnings.map(({ hash }) => hash);
  const hashes = [of("m", "s"), of("n", "s"), of("m", "t"), of("m", "s", messages.toReversed())].flat();
  assertEquals(new Set(hashes).size, 8);
  assertEquals(of("m", "s", [...messages, messages[0]]).slice(0, 2), of("m", "s"));
});

Deno.test("after any sequence of learning and eviction, a prompt gets the blocks of its longest known prefix", () => {
  const turns = fc.array(fc.constantFrom("a", "bb", "ccc"), { minLength: 1, maxLength: 6 });
  const told = fc.record({ turns, count: fc.nat(9) });
  const limits = { beginnings: 8, blocks: 20 };
  fc.assert(
    fc.property(fc.array(told, { maxLength: 40 }), turns, (history, asked) => {
      const prefixes = new Prefixes(limits);
      // All that is known, what was told longest ago first.
      let naive: { hash: string; at: number; part: number[] }[] = [];
      const blocksKept = () =>
        [...new Set(naive.map(({ at }) => at))].reduce((sum, at) => sum + history[at].count, 0);
      history.forEach(({ turns, count }, at) => {
        const text = promptTextOf("m", { request: { messages: turns }, scope: "s" });
        const blocks = Array.from({ length: count }, (_, i) => 100 * at + i);
        prefixes.learn(text, blocks);
        for (const { hash, chars } of count === 0 ? [] : text.beginnings.toReversed()) {
          const part = blocks.slice(0, Math.floor(count * chars / text.chars));
          naive = [...naive.filter((one) => one.hash !== hash), { hash, at, part }];
        }
        while (naive.length > limits.beginnings || blocksKept() > limits.blocks) naive.shift();
        assertEquals(prefixes.blocks, blocksKept());
      });
      const text = promptTextOf("m", { request: { messages: asked }, scope: "s" });
      const hash = text.beginnings.findLast(({ hash }) => naive.some((one) => one.hash === hash))?.hash;
      assertEquals(Array.from(prefixes.blocksOf(text)), naive.find((one) => one.hash === hash)?.part ?? []);
    }),
    { numRuns: 500 },
  );
});

Deno.test("what is kept is bounded in beginnings and in hashes, and what was told last is there", () => {
  const prefixes = new Prefixes();
  const blocks = new Float64Array(PREFIX_BLOCKS_MAX / 10);
  for (let i = 0; i < 30; i++) {
    prefixes.learn(raw(`${i}`), blocks);
    assertEquals(prefixes.blocksOf(raw(`${i}`)).length, blocks.length);
  }
  assertEquals(prefixes.blocks, PREFIX_BLOCKS_MAX);
  assertEquals(prefixes.blocksOf(raw("19")).length, 0);
  for (let i = 0; i < PREFIXES_MAX; i++) prefixes.learn(raw(`short ${i}`), [i]);
  assertEquals(prefixes.blocks, PREFIXES_MAX);
});

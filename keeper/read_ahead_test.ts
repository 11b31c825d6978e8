import { assertEquals, assertRejects } from "@std/assert";
import { readAhead } from "./read_ahead.ts";

async function* upTo(count: number, after?: () => never) {
  for (let i = 0; i < count; i++) yield i;
  await Promise.resolve();
  after?.();
}

Deno.test("everything arrives while the first event is still being shown, and is passed on in order", async () => {
  const arrived: number[] = [];
  const all = Promise.withResolvers<void>();
  const shown: number[] = [];
  const ahead = readAhead(upTo(1_000), (event) => {
    arrived.push(event);
    if (event === 999) all.resolve();
  });
  for await (const event of ahead) {
    if (event === 0) await all.promise;
    shown.push(event);
  }
  assertEquals(shown, arrived);
  assertEquals(shown.length, 1_000);
});

Deno.test("an error comes after what arrived before it", async () => {
  const shown: number[] = [];
  const ahead = readAhead(upTo(3, () => {
    throw new RangeError("cut");
  }));
  await assertRejects(
    async () => {
      for await (const event of ahead) shown.push(event);
    },
    RangeError,
    "cut",
  );
  assertEquals(shown, [0, 1, 2]);
});

Deno.test("whoever stops early ends the source, without waiting for its next event", async () => {
  const ended = Promise.withResolvers<void>();
  const source = {
    [Symbol.asyncIterator]: () => ({
      asked: 0,
      next() {
        return this.asked++ === 0 ? Promise.resolve({ done: false, value: 1 }) : new Promise<never>(() => {});
      },
      return() {
        ended.resolve();
        return new Promise<never>(() => {});
      },
    }),
  };
  for await (const _ of readAhead(source)) break;
  await ended.promise;
});

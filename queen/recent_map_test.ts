import { assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { RecentMap } from "./recent_map.ts";

Deno.test("whatever is used, what was used longest ago goes first, and a look is no use", () => {
  const action = fc.record({
    what: fc.constantFrom("set", "set", "set", "get", "peek", "take", "takeOldest"),
    key: fc.integer({ min: 0, max: 12 }),
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.array(action, { maxLength: 400 }), (limit, actions) => {
      const map = new RecentMap<number, number>(limit);
      let naive: { key: number; value: number }[] = [];
      actions.forEach(({ what, key }, value) => {
        const known = naive.find((one) => one.key === key);
        if (what === "peek") {
          return assertEquals([map.peek(key), map.has(key)], [known?.value, known !== undefined]);
        }
        if (what === "take" || what === "takeOldest") {
          const gone = what === "take" ? known : naive[0];
          assertEquals(what === "take" ? map.take(key) : map.takeOldest(), gone?.value);
          naive = naive.filter((one) => one !== gone);
          return;
        }
        if (what === "get") assertEquals(map.get(key), known?.value);
        else map.set(key, value);
        const kept = what === "set" ? { key, value } : known;
        if (kept === undefined) return;
        naive = [...naive.filter((one) => one !== known), kept].slice(-limit);
      });
      assertEquals(map.size, naive.length);
      for (const { key, value } of naive) assertEquals(map.peek(key), value);
    }),
  );
});

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type KeptLine, LogRing } from "./log_ring.ts";

function line(seq: number, chars: number): KeptLine {
  return { seq, timeMs: seq, json: "x".repeat(chars) };
}

Deno.test("a ring holds the latest lines that fit into both bounds, whatever their lengths", () => {
  const lengths = fc.array(fc.nat({ max: 30 }), { maxLength: 60 });
  fc.assert(fc.property(lengths, fc.nat({ max: 61 }), (lengths, from) => {
    const ring = new LogRing({ maxLines: 7, maxChars: 100 });
    const all = lengths.map((chars, index) => line(index + 1, chars));
    for (const each of all) ring.push(each);
    const kept = ring.after(0);
    assertEquals(kept, all.slice(all.length - kept.length));
    const chars = (lines: KeptLine[]) => lines.reduce((sum, { json }) => sum + json.length, 0);
    assert(kept.length <= 7 && chars(kept) <= 100);
    const oneMore = all.slice(Math.max(0, all.length - kept.length - 1));
    assert(oneMore.length === kept.length || oneMore.length > 7 || chars(oneMore) > 100);
    assertEquals(ring.after(from), kept.filter(({ seq }) => seq > from));
  }));
});

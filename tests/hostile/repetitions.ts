/** Bounds of repetitions that are none, and what requests with a grammar or a schema have in common. */
import type { Draw } from "./draw.ts";

/** Short answers: they are about the way there. */
export const SHORT = { max_tokens: 8, temperature: 0.8, seed: 1 };
/** A conversation. */
export const MESSAGES = [{ role: "user", content: "Tell me a story." }];

/** Where counts go wrong. */
export const BOUNDS = [
  0,
  1,
  2,
  3,
  10,
  999,
  1_000,
  1_001,
  2_000,
  2_001,
  65_535,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
];
const LARGE_BOUNDS = [
  "9223372036854775807",
  "9223372036854775808",
  "18446744073709551615",
  "18446744073709551616",
  "-1",
  "00002",
  "1e3",
  "99999999999999999999999999",
];

function bound(draw: Draw): string {
  return draw.chance(30) ? draw.pick(LARGE_BOUNDS) : String(draw.pick(BOUNDS));
}

/** Repetitions of GBNF and of patterns. */
export const REPETITIONS: Readonly<Record<string, (draw: Draw) => string>> = {
  any: (draw) => `{${bound(draw)},${bound(draw)}}`,
  exact: (draw) => `{${bound(draw)}}`,
  open: (draw) => `{${bound(draw)},}`,
  odd: (draw) =>
    draw.pick([
      "{}",
      "{,}",
      "{,3}",
      "{ 2 , 1 }",
      "{2,1",
      "{2;1}",
      "{a}",
      "{2,1}{2,1}",
      "{0,0}",
      "{0}",
      "{1,0}",
    ]),
  reversed: (draw) => {
    const least = draw.size(1, 2 ** 31);
    return `{${least},${draw.integer(0, least - 1)}}`;
  },
};

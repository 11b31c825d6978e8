/**
 * Which request killed a worker: a pure function over what is known.
 *
 * A worker takes all of its requests down with it, and nothing says which of them was to blame. So each of them is
 * charged with the loss, and only a token clears a request: a worker generated it and survived. Because every loss is
 * charged to everybody it may be due to, no request can cost more workers than its limit, whatever runs beside it.
 *
 * That alone would end innocent requests that were twice in bad company. So a request with a strike is a suspect, and
 * placement (`placement.ts`) tries it apart: on the quietest worker, where nobody else may join it until it has told a
 * token. A second loss can then be due to it, to what already ran there, or to the machine; never to another suspect.
 *
 * | the attempt ended because | a token was told in it | strikes after it | what follows |
 * | --- | --- | --- | --- |
 * | the request was turned away, or the worker left in order | no | as before | another worker |
 * | | yes | 0 | another worker |
 * | the worker was lost | yes | 1 | another worker, apart from others |
 * | | no, and the limit is not reached | one more | another worker, apart from others |
 * | | no, and the limit is reached | one more | poisoned: it is ended |
 * | it was lost for the {@linkcode LOSSES_MAX}th time in all | either | as above | poisoned: it is ended |
 *
 * A request that always kills at its fifth token is poisoned, too: the first worker told five, the second none.
 */
import { LOSSES_MAX, POISONED_STRIKES } from "../limits.ts";

/** How a worker failed to bring a request to its end. */
export interface Ending {
  /** `left`: it did not take the request, or left in order. `lost`: it had the request and is gone. */
  readonly how: "left" | "lost";
  /** Whether a token was told that no other worker has to tell again. */
  readonly told: boolean;
}

/** What a request is charged with. */
export interface Charges {
  /** Workers lost since its last token; the last one that told something included. */
  readonly strikes: number;
  /** Workers lost in all. */
  readonly losses: number;
}

/** What follows from an {@linkcode Ending}, see the table above; `limit` is that of strikes. */
export function judge(
  before: Charges,
  ending: Ending,
  limit: number = POISONED_STRIKES,
): Charges & { poisoned: boolean } {
  const strikes = ending.told ? 0 : before.strikes;
  if (ending.how === "left") return { strikes, losses: before.losses, poisoned: false };
  const after = { strikes: strikes + 1, losses: before.losses + 1 };
  const poisoned = (!ending.told && after.strikes >= limit) || after.losses >= LOSSES_MAX;
  return { ...after, poisoned };
}

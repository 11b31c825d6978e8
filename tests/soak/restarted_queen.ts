/**
 * `deno task soak:restarts [--rounds N]`: a queen with 4 running and 100 queued tasks of two keys is killed and started
 * again. All of them have to be done afterwards, each time.
 */
import { parseArgs } from "node:util";
import { assertEquals } from "@std/assert";
import { restartRound, RIGHT_ENDS } from "../cluster/restart_round.ts";

const { values } = parseArgs({ args: Deno.args, options: { rounds: { type: "string", default: "20" } } });
let failed = 0;
for (let round = 1; round <= Number(values.rounds); round++) {
  const ends = await restartRound();
  try {
    assertEquals(ends, RIGHT_ENDS);
  } catch {
    failed++;
  }
  console.log(`round ${round}: ${[...ends].map(([end, count]) => `${count} ${end}`).join(", ")}`);
}
console.log(`${Number(values.rounds) - failed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);

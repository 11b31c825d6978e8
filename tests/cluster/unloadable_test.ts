/** B3: what can't be loaded is not tried by one machine after the other. */
import { assert, assertEquals } from "@std/assert";
import { askUnloadable, failures } from "./unloadable.ts";

const HIVES = 5;

for (const failure of failures().filter(({ name }) => /block_count_2|die while they load/.test(name))) {
  Deno.test(`${failure.name}: at most ${failure.triesMax} of ${HIVES} machines try, and the reason is told`, async () => {
    const told = await askUnloadable(failure, HIVES);
    assert(told.tries > 0 && told.tries <= failure.triesMax, JSON.stringify(told));
    assertEquals([told.status, told.code], [502, failure.code], told.message);
  });
}

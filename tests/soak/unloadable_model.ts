/**
 * `deno task soak:unloadable [--hives N]`: a queen with forty real hives is asked for a model that none of them can load,
 * for one reason after the other. Exit status 1 when more of them try it than may, or the client is told something else.
 */
import { parseArgs } from "node:util";
import { askUnloadable, failures } from "../cluster/unloadable.ts";

const { values } = parseArgs({ args: Deno.args, options: { hives: { type: "string", default: "40" } } });
const hives = Number(values.hives);
let failed = 0;
const all = failures();
for (const failure of all) {
  const told = await askUnloadable(failure, hives);
  const right = told.tries > 0 && told.tries <= failure.triesMax && told.code === failure.code;
  if (!right) failed++;
  console.log(
    `${
      right ? "ok    " : "FAILED"
    } ${failure.name}: ${told.tries} of ${hives} machines tried it (${told.downloads} ` +
      `downloads, ${told.workers} workers), told after ${
        (told.ms / 1000).toFixed(1)
      } s: ${told.status} ${told.code}: ` +
      told.message.slice(0, 120),
  );
}
console.log(`${all.length - failed} passed, ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);

/**
 * The first part of `deno task soak`: a hundred thousand damaged GGUF headers, each read as the hive reads them. Each
 * has to be refused with `INVALID_MODEL`, or to be still right, and reading it may take no 64 MB. To be run with a heap
 * of less than that (see deno.json), so that a larger one ends the process. Exit status 1 when anything was wrong.
 */
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { estimateMemory } from "../../hive/models/memory_estimate.ts";
import { readGgufFacts } from "../../hive/models/gguf.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { type FuzzedHeader, fuzzedHeader, largestHeaders } from "./fuzzed_headers.ts";

/** Of heap, of buffers, and of growth while one header is read. */
const MAX_BYTES = 64_000_000;
/** More problems are only counted. */
const MAX_SHOWN_PROBLEMS = 20;

const FLAGS = {
  headers: { type: "integer", value: "N", min: 1, max: 100_000_000, default: 100_000, help: "How many." },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: gguf_headers.ts [--headers N] [--seed N]"].join("\n"));
    Deno.exit(2);
  }
  Deno.exit(await fuzz(flags));
}

async function fuzz({ headers, seed }: { headers: number; seed: number }): Promise<number> {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  const counts = { rejected: 0, accepted: 0, problems: 0 };
  const most = { heap: 0, buffers: 0, growth: 0 };
  const startedMs = performance.now();
  const problem = (text: string) => {
    if (++counts.problems <= MAX_SHOWN_PROBLEMS) console.log(`failed: ${text}`);
  };
  const check = async (header: FuzzedHeader, name: string) => {
    await Deno.writeFile(path, header.bytes);
    await Deno.truncate(path, header.fileBytes);
    const before = Deno.memoryUsage();
    const outcome = await outcomeOf(path, header);
    const after = Deno.memoryUsage();
    most.heap = Math.max(most.heap, after.heapUsed);
    most.buffers = Math.max(most.buffers, after.external);
    most.growth = Math.max(most.growth, after.rss - before.rss);
    if (outcome === "rejected" || outcome === "accepted") counts[outcome]++;
    else problem(`${name} (${header.kind}): ${outcome}`);
  };
  try {
    for (const header of largestHeaders()) await check(header, "the largest");
    for (let number = 0; number < headers; number++) {
      await check(fuzzedHeader(number, seed), `header ${number} of seed ${seed}`);
    }
  } finally {
    await Deno.remove(path);
  }
  for (const [what, bytes] of Object.entries(most)) {
    if (bytes > MAX_BYTES) problem(`${what} came to ${megabytes(bytes)}`);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(
    `headers: ${counts.rejected} INVALID_MODEL and ${counts.accepted} still right in ${
      seconds.toFixed(1)
    } s; ` +
      `at most ${megabytes(most.heap)} of heap and ${megabytes(most.buffers)} of buffers, ` +
      `${megabytes(most.growth)} more resident after one header; ${counts.problems} problems`,
  );
  return counts.problems === 0 ? 0 : 1;
}

/** `rejected`, `accepted`, or what is wrong. */
async function outcomeOf(path: string, header: FuzzedHeader): Promise<string> {
  try {
    const facts = await readGgufFacts(path);
    const estimate = estimateMemory(facts, { ctxSize: 4096, slots: 4 });
    const sane = facts.tensorBytes <= header.fileBytes &&
      Object.values(estimate).every((mb) => Number.isSafeInteger(mb) && mb >= 0);
    return sane ? "accepted" : `absurd facts: ${JSON.stringify(estimate)}`;
  } catch (error) {
    return error instanceof RbeeError && error.code === "INVALID_MODEL" ? "rejected" : String(error);
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

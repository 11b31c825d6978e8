/**
 * `deno task soak:hostile`: the corpus of hostile input against real workers, while a thread looks at health, at a
 * neighbour's stream and at memory. Of each kind the inputs that were found and as many that are made from the seed.
 * `--only KIND --index I` sends one entry again, `--scale X` makes it smaller. Ends with one line of counts; exit status 1
 * when a bound is broken, 2 for a wrong command line.
 */
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { type Kind, KINDS } from "../hostile/entry.ts";
import { type HostileRun, KindRun } from "../hostile/kind_run.ts";
import { findingsIn, sanitizedCheckout } from "../hostile/sanitized.ts";
import { Witness } from "../hostile/witness.ts";

const PER_KIND = 200;
const SANITIZED_PER_KIND = 20;
/** How much slower, and larger, everything is that a sanitizer looks at. */
const SANITIZED_BOUNDS = 20;
/** Share of the length of answers then: each token is read back with all before it. */
const SANITIZED_ANSWERS = 0.1;

const FLAGS = {
  "per-kind": {
    type: "integer",
    value: "N",
    min: 0,
    max: 100_000,
    help: "How many are made of each kind; 200, with --sanitize 20.",
  },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
  only: { type: "text", value: "KIND", repeatable: true, choices: Object.keys(KINDS), help: "Of this kind." },
  index: { type: "integer", value: "I", min: 0, help: "This entry alone." },
  scale: { type: "number", value: "X", min: 0.0001, max: 1, default: 1, help: "Share of the drawn sizes." },
  bounds: {
    type: "number",
    value: "X",
    min: 1,
    max: 1000,
    default: 1,
    help: "Factor of the bounds on time and memory.",
  },
  checkout: { type: "text", value: "PATH", help: "Workers of another checkout, to compare." },
  sanitize: {
    type: "boolean",
    help: "With an engine that the address sanitizer looks at; fewer, and with wider bounds.",
  },
  patience: {
    type: "integer",
    value: "SECONDS",
    min: 1,
    max: 600,
    default: 20,
    help: "Until an answer is stuck.",
  },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error(
      [...problems, "Usage: deno task soak:hostile [--per-kind N] [--seed N] [--only KIND [--index I]]"].join(
        "\n",
      ),
    );
    Deno.exit(2);
  }
  const only = (flags.only ?? []) as Kind[];
  Deno.exit(
    await soakHostile({
      perKind: flags["per-kind"] ?? (flags.sanitize ? SANITIZED_PER_KIND : PER_KIND),
      seed: flags.seed,
      // What a request costs a cluster is not to be seen at one worker.
      only: only.length > 0 ? only : (Object.keys(KINDS) as Kind[]).filter((kind) => kind !== "A4"),
      index: flags.index,
      scale: flags.scale,
      bounds: flags.bounds * (flags.sanitize ? SANITIZED_BOUNDS : 1),
      patienceMs: flags.patience * 1000 * (flags.sanitize ? SANITIZED_BOUNDS : 1),
      sanitize: flags.sanitize === true,
      root: flags.checkout,
    }),
  );
}

/** Runs it; returns the exit status. */
async function soakHostile(asked: HostileRun & { sanitize: boolean }): Promise<number> {
  const folder = await Deno.makeTempDir({ prefix: "rbee-hostile-" });
  using witness = new Witness();
  const startedMs = performance.now();
  let passed = 0;
  let failed = 0;
  try {
    const sanitized = asked.sanitize ? await sanitizedCheckout(`${folder}/checkout`) : undefined;
    const run = sanitized === undefined ? asked : { ...asked, ...sanitized, findings: findingsIn };
    for (const kind of run.only) {
      const scale = run.scale * (asked.sanitize && kind === "A12" ? SANITIZED_ANSWERS : 1);
      const result = await new KindRun({ ...run, scale }, kind, { folder, witness }).run();
      passed += result.passed;
      failed += result.failed;
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(`${passed} passed, ${failed} failed (seed ${asked.seed}, ${seconds.toFixed(0)} s)`);
  return failed === 0 ? 0 : 1;
}

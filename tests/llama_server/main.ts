/**
 * `deno task test:llama-server`: llama.cpp's own server tests, in Python, against our worker behind an adapter. Those
 * that are marked slow download models of gigabytes and are left out.
 */
import { join } from "@std/path";
import { ROOT } from "../helpers/daemons.ts";
import { freePort } from "../helpers/free_port.ts";
import { NOT_APPLICABLE, WITHOUT_SEED } from "./not_applicable.ts";

const FILES = ["basic", "chat_completion", "completion", "embedding", "template", "tokenize", "tool_call"]
  .map((name) => `unit/test_${name}.py`);
const SUITE = join(ROOT, "worker/native/llama.cpp/tools/server/tests");
const HERE = join(ROOT, "tests/llama_server");

interface Outcome {
  name: string;
  outcome: "passed" | "failed" | "skipped";
}

if (import.meta.main) {
  const python = await findPython();
  const folder = await Deno.makeTempDir();
  try {
    const outcomes = [
      ...await run(python, { folder, tests: FILES, leaveOut: WITHOUT_SEED }),
      ...await run(python, { folder, tests: WITHOUT_SEED, env: { RBEE_ADAPTER_SEED: "none" } }),
    ];
    Deno.exit(report(outcomes));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The first Python that has what the tests need. */
async function findPython(): Promise<string> {
  for (const python of ["python3", "/usr/bin/python3"]) {
    const { success } = await new Deno.Command(python, {
      args: ["-c", "import pytest, requests"],
      stderr: "null",
    })
      .output().catch(() => ({ success: false }));
    if (success) return python;
  }
  console.error(
    "Python has no pytest or no requests. On Debian: apt-get install python3-pytest python3-requests",
  );
  Deno.exit(1);
}

async function run(
  python: string,
  what: {
    folder: string;
    tests: readonly string[];
    leaveOut?: readonly string[];
    env?: Record<string, string>;
  },
): Promise<Outcome[]> {
  const report = join(what.folder, "report.xml");
  const server = join(what.folder, "llama-server");
  const command = [
    Deno.execPath(),
    "run",
    "-A",
    "--config",
    join(ROOT, "deno.json"),
    join(HERE, "adapter.ts"),
  ];
  const quoted = command.map((part) => `'${part}'`).join(" ");
  await Deno.writeTextFile(server, `#!/bin/sh\nexec ${quoted} "$@"\n`, { mode: 0o755 });
  await new Deno.Command(python, {
    args: [
      ...[
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "-m",
        "not slow",
        `--junitxml=${report}`,
      ],
      ...(what.leaveOut ?? []).map((test) => `--deselect=${test}`),
      ...what.tests,
    ],
    cwd: SUITE,
    env: {
      PYTHONPATH: join(HERE, "stand_ins"),
      PYTHONDONTWRITEBYTECODE: "1",
      LLAMA_SERVER_BIN_PATH: server,
      PORT: String(freePort()),
      ...what.env,
    },
    stdin: "null",
  }).spawn().status;
  return outcomesOf(await Deno.readTextFile(report));
}

function outcomesOf(xml: string): Outcome[] {
  return [
    ...xml.matchAll(/<testcase classname="([^"]*)" name="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g),
  ]
    .map(([, file, name, inside = ""]) => ({
      name: `${file.replaceAll(".", "/")}.py::${name}`,
      outcome: /<(failure|error)/.test(inside)
        ? "failed"
        : inside.includes("<skipped")
        ? "skipped"
        : "passed",
    }));
}

function report(outcomes: readonly Outcome[]): number {
  const reasonFor = ({ name }: Outcome) => NOT_APPLICABLE[name.replace(/\[.*$/s, "")];
  const applying = outcomes.filter((outcome) => reasonFor(outcome) === undefined);
  const passed = applying.filter(({ outcome }) => outcome === "passed");
  const failed = applying.filter(({ outcome }) => outcome === "failed");
  for (const { name } of passed) console.log(`passes: ${name}`);
  for (const outcome of outcomes) {
    const reason = outcome.outcome === "skipped" ? "llama.cpp itself leaves it out" : reasonFor(outcome);
    if (reason !== undefined) console.log(`does not apply: ${outcome.name}: ${reason}`);
  }
  // What passes after all is no exception any more.
  const stale = outcomes.filter((outcome) =>
    reasonFor(outcome) !== undefined && outcome.outcome === "passed"
  );
  for (const { name } of stale) console.log(`listed as not applying, and passes: ${name}`);
  for (const { name } of failed) console.log(`FAILED: ${name}`);
  console.log(`${passed.length} passed, ${failed.length + stale.length} failed`);
  return failed.length + stale.length > 0 || passed.length === 0 ? 1 : 0;
}

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { parseCommandLine, UsageError } from "./cli.ts";
import { COMMANDS } from "./command_table.ts";
import { INFER_FLAGS } from "./table/infer.ts";
import { checkInferFlags, spawnRequest } from "./commands/infer_input.ts";
import { InferenceRequest } from "../protocol/worker_requests.ts";
import { SpawnRequest } from "../protocol/spawn_request.ts";

function parse(...args: string[]) {
  return parseCommandLine(args, COMMANDS);
}

function command(...args: string[]) {
  const asked = parse(...args);
  assert(asked.kind === "command");
  return asked;
}

Deno.test("a command gets its flags typed, with the table's defaults", () => {
  const { command: { path }, flags, problems } = command(
    ...["infer", "--prompt", "hi", "--max-tokens=20", "--temperature", "0.5", "--json"],
    ...["--stop", "a", "--stop", "b"],
  );
  assertEquals(path, ["infer"]);
  assertEquals(problems, []);
  assertEquals(
    [flags.prompt, flags["max-tokens"], flags.temperature, flags.json, flags.raw, flags.stop],
    ["hi", 20, 0.5, true, false, ["a", "b"]],
  );
  assertEquals([flags.model, flags.node, flags.retry, flags.seed], [undefined, undefined, 3, undefined]);
});

Deno.test("a value may start with a dash", () => {
  const { flags, problems } = command("infer", "--prompt", "-", "--stop", "- ", "--system", "--be brief");
  assertEquals(problems, []);
  assertEquals([flags.prompt, flags.stop, flags.system], ["-", ["- "], "--be brief"]);
});

Deno.test("every mistake is named at once, with near misses", () => {
  const { problems } = command(
    ...[
      "infer",
      "--max-token",
      "5",
      "--temperature",
      "9",
      "--seed",
      "x",
      "--backend",
      "gpu",
      "stray",
      "--temp=1",
    ],
  );
  assertEquals(problems, [
    "Unknown flag --max-token. Did you mean --max-tokens?",
    "Unknown flag --temp. Did you mean --temperature?",
    'Unexpected argument "stray". Did you mean --prompt "stray"?',
    "--prompt is required.",
    '--temperature takes a number from 0 to 2, not "9".',
    '--seed takes a whole number from 0 to 4294967294, not "x".',
    '--backend takes one of auto, cpu, cuda, metal, vulkan, not "gpu".',
  ]);
});

Deno.test("a flag whose value is missing does not swallow the next flag", () => {
  const { flags, problems } = command("infer", "--prompt", "--json", "--seed");
  assertEquals(problems, ["--prompt needs a value.", "--seed needs a value."]);
  assertEquals(flags.json, true);
});

Deno.test("an unknown command names the near one, or all there are", () => {
  const problemsOf = (...args: string[]) => assertThrows(() => parse(...args), UsageError).problems;
  assertEquals(problemsOf("infre"), ['Unknown command "infre". Did you mean "infer"?']);
  assertEquals(problemsOf("pool", "helth"), ['Unknown command "pool helth". Did you mean "pool health"?']);
  assertEquals(problemsOf("pool", "worker", "spwan"), [
    'Unknown command "pool worker spwan". Did you mean "pool worker spawn"?',
  ]);
  assertMatch(
    problemsOf("xyzzy")[0],
    /^Unknown command "xyzzy". Known: infer, chat, models, pool, workers, /,
  );
  assertEquals(problemsOf("pool", "models"), ['"pool models" needs one of: download, list, remove.']);
  assertEquals(problemsOf("--json", "infer"), ['"--json" came before any command. Name the command first.']);
});

Deno.test("help and version are found at every level", () => {
  assertEquals(parse(), { kind: "help", path: [] });
  assertEquals(parse("--help"), { kind: "help", path: [] });
  assertEquals(parse("-h"), { kind: "help", path: [] });
  assertEquals(parse("help", "pool"), { kind: "help", path: ["pool"] });
  assertEquals(parse("pool", "--help"), { kind: "help", path: ["pool"] });
  assertEquals(parse("workers", "list", "-h"), { kind: "help", path: ["workers", "list"] });
  // Even beside mistakes: who asks for help gets it.
  assertEquals(parse("infer", "--bogus", "--help"), { kind: "help", path: ["infer"] });
  assertEquals(parse("--version"), { kind: "version" });
});

Deno.test("flags that contradict each other are named", () => {
  const stop = Array.from({ length: 17 }, String);
  assertEquals(checkInferFlags({ prompt: "", raw: true, system: "s", stop, model: "tiny" }).length, 4);
  assertEquals(checkInferFlags({ stop: [""] }), ["--stop must not be empty."]);
  assertEquals(checkInferFlags({ prompt: "x", model: "hf:a/b:Q4_0@main" }), []);
});

Deno.test("the bounds of infer's flags are those of the schemas behind them", () => {
  const fields = {
    "max-tokens": "max_tokens",
    temperature: "temperature",
    "top-p": "top_p",
    "top-k": "top_k",
    "min-p": "min_p",
    seed: "seed",
    device: "device",
    slots: "slots",
    "ctx-size": "ctx_size",
    "idle-timeout": "idle_timeout",
  } as const;
  for (const [flag, field] of Object.entries(fields)) {
    const { min, max } = INFER_FLAGS[flag as keyof typeof fields];
    const accepts = (value: number) =>
      flag in { device: 0, slots: 0, "ctx-size": 0, "idle-timeout": 0 }
        ? SpawnRequest.safeParse({ model_ref: "builtin:stories", [field]: value }).success
        : InferenceRequest.safeParse({ prompt: "x", [field]: value }).success;
    assertEquals([accepts(min), accepts(max), accepts(min - 1)], [true, true, false], flag);
    // The longest answer depends on the model: only the worker knows.
    if (flag !== "max-tokens") assertEquals(accepts(max + 1), false, flag);
  }
});

Deno.test("a wish has the hive's defaults filled in, so that saying them changes nothing", () => {
  const wish = (...args: string[]) =>
    spawnRequest(command("infer", "--prompt", "x", ...args).flags as never, "builtin:stories");
  assertEquals(wish(), wish("--slots", "4", "--device", "0", "--backend", "auto"));
});

Deno.test("what other programs call a command, and its last word alone, lead to it", () => {
  for (
    const [word, meant] of [
      ["run", '"infer"'],
      ["ps", '"workers list"'],
      ["pull", '"models pull"'],
      ["serve", '"daemon start"'],
      ["stop", '"nodes stop" or "daemon stop"'],
    ]
  ) {
    assertEquals(assertThrows(() => parse(word), UsageError).problems, [
      `Unknown command "${word}". Did you mean ${meant}?`,
    ]);
  }
});

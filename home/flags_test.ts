import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type FlagTable, readFlags } from "./flags.ts";

const TABLE = {
  prompt: { type: "text", help: "What to say." },
  count: { type: "integer", help: "How many.", min: 1, max: 100, default: 5 },
  heat: { type: "number", help: "How hot.", min: 0, max: 2 },
  stop: { type: "text", help: "Where to end.", repeatable: true },
  backend: { type: "text", help: "On what.", choices: ["cpu", "cuda"] },
  json: { type: "boolean", help: "For programs." },
} as const satisfies FlagTable;

const read = (...args: string[]) => readFlags(args, TABLE);
const problems = (...args: string[]) => read(...args).problems;

Deno.test("no flags give the defaults", () => {
  assertEquals(read(), {
    flags: { prompt: undefined, count: 5, heat: undefined, stop: [], backend: undefined, json: false },
    problems: [],
  });
});

Deno.test("values come typed, after a space or an equals sign", () => {
  for (
    const args of [["--prompt", "x", "--count", "7", "--heat", "0.5"], [
      "--prompt=x",
      "--count=7",
      "--heat=.5",
    ]]
  ) {
    const { flags, problems } = read(...args, "--json", "--backend", "cuda");
    assertEquals(problems, []);
    assertEquals([flags.prompt, flags.count, flags.heat, flags.json, flags.backend], [
      "x",
      7,
      0.5,
      true,
      "cuda",
    ]);
  }
});

Deno.test("a value may look like a flag, a number, or nothing at all", () => {
  for (
    const text of [
      "-",
      "--",
      "- ",
      "-x",
      "--other",
      "--no-json",
      "5",
      "",
      "a=b",
      "=",
      " ",
      "ü\n🐝",
      "--prompt text",
    ]
  ) {
    assertEquals(read("--prompt", text), read(`--prompt=${text}`), text);
    assertEquals(read("--prompt", text).flags.prompt, text);
    assertEquals(read("--prompt", text).problems, [], text);
  }
});

Deno.test("a repeatable flag keeps all its values in order; of another one the last counts", () => {
  assertEquals(read("--stop", "a", "--stop=b", "--stop", "a").flags.stop, ["a", "b", "a"]);
  assertEquals(read("--count", "1", "--count", "2").flags.count, 2);
});

Deno.test("a flag without its value is named, once, and the flag after it is still read", () => {
  assertEquals(problems("--prompt"), ["--prompt needs a value."]);
  const { flags, problems: found } = read("--prompt", "--json", "--count=9");
  assertEquals([found, flags.json, flags.count], [["--prompt needs a value."], true, 9]);
});

Deno.test("a value that does not fit is named with what the flag takes", () => {
  for (const text of ["0", "101", "1.5", "x", "", "1e2", "0x10", " 5", "٣", "-5", "NaN"]) {
    assertEquals(problems(`--count=${text}`), [`--count takes a whole number from 1 to 100, not "${text}".`]);
  }
  for (const text of ["-0.1", "2.1", "hot", "Infinity", "."]) {
    assertEquals(problems(`--heat=${text}`), [`--heat takes a number from 0 to 2, not "${text}".`]);
  }
  assertEquals(problems("--backend=gpu"), ['--backend takes one of cpu, cuda, not "gpu".']);
  assert(problems(`--count=${"9".repeat(10_000)}`)[0].length < 200);
});

Deno.test("an unknown flag is named, with the one that was probably meant", () => {
  assertEquals(problems("--promt=x"), ["Unknown flag --promt. Did you mean --prompt?"]);
  assertEquals(problems("--zzz"), ["Unknown flag --zzz."]);
  assertEquals(problems("-z"), ["Unknown flag -z."]);
  for (const name of ["constructor", "__proto__", "toString", "hasOwnProperty"]) {
    assertEquals(problems(`--${name}=1`), [`Unknown flag --${name}.`]);
    assertEquals(({} as Record<string, unknown>)["polluted"], undefined);
  }
});

Deno.test("a stray word is named, with the flag that must have been meant when there is one", () => {
  assertEquals(problems("hello"), ['Unexpected argument "hello".']);
  const table = { prompt: { type: "text", help: "", required: true } } as const satisfies FlagTable;
  assertEquals(readFlags(["hello"], table).problems, [
    'Unexpected argument "hello". Did you mean --prompt "hello"?',
    "--prompt is required.",
  ]);
});

Deno.test("one flag's value may stand without its name", () => {
  const table = {
    model: { type: "text", help: "", value: "REF", required: true },
    json: { type: "boolean", help: "" },
  } as const satisfies FlagTable;
  const bare = (...args: string[]) => readFlags(args, table, { bare: "model" });
  for (const args of [["m"], ["--json", "m"], ["m", "--json"], ["--model", "m"], ["--", "m"]]) {
    assertEquals([bare(...args).flags.model, bare(...args).problems], ["m", []]);
  }
  assertEquals(bare("7").flags.model, "7");
  assertEquals(bare().problems, ["REF is required."]);
  assertEquals(bare("m", "n").problems, ['Unexpected argument "n".']);
  assertEquals(bare("--model", "m", "n").problems, ['Unexpected argument "n".']);
});

Deno.test("after -- nothing is a flag", () => {
  assertEquals(problems("--", "--prompt", "x"), [
    'Unexpected argument "--prompt".',
    'Unexpected argument "x".',
  ]);
});

Deno.test("what is required is named when it is missing, and only once when its value is", () => {
  const table = { id: { type: "text", help: "", required: true } } as const satisfies FlagTable;
  assertEquals(readFlags([], table).problems, ["--id is required."]);
  assertEquals(readFlags(["--id"], table).problems, ["--id needs a value."]);
  assertEquals(readFlags(["--id", ""], table), { flags: { id: "" }, problems: [] });
});

Deno.test("all mistakes are named at once", () => {
  assertEquals(problems("--count=x", "--promt=y", "stray", "--heat=9", "--backend").length, 5);
});

Deno.test("whatever is typed, it is read or named, and nothing throws", () => {
  const word = fc.oneof(
    fc.constantFrom(
      "--prompt",
      "--count",
      "--json",
      "--stop",
      "--",
      "-",
      "--=",
      "--no-json",
      "--prompt.x",
      "--count=5",
    ),
    fc.string().map((text) => `--${text}`),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), fc.constantFrom("prompt", undefined), (args, bare) => {
      const { flags, problems } = readFlags(args, TABLE, { bare });
      assertEquals(Object.keys(flags).sort(), Object.keys(TABLE).sort());
      assertEquals([typeof flags.json, Array.isArray(flags.stop)], ["boolean", true]);
      for (const problem of problems) assert(problem.endsWith(".") || problem.endsWith("?"), problem);
    }),
    { numRuns: 2000 },
  );
});

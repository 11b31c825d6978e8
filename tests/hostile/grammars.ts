/** A2 and A3: grammars and schemas that take time or memory out of all proportion, and bounds that are none. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Draw, repeated } from "./draw.ts";
import { jsonRequest, type RequestEntry } from "./entry.ts";
import { MESSAGES, REPETITIONS, SHORT } from "./repetitions.ts";
import { BOUNDED_SCHEMAS, SCHEMA_WAYS, SLOW_SCHEMAS } from "./schemas.ts";

type Maker<T> = (draw: Draw) => T;

/** Atoms of GBNF. */
const ATOMS = ['"a"', '"ab"', '""', "[a-z]", "[^a]", "[^\\x00]", ".", '"\\u00e9"', "[😀-🙏]", '" "'];
const QUANTIFIERS = ["?", "*", "+", "{0,3}", "{2}", "{1,}"];

const GRAMMARS: Readonly<Record<string, Maker<string>>> = {
  optional_row: (draw) => `root ::= ${repeated(`${draw.pick(ATOMS)}? `, draw.size(40, 60_000))}"b"`,
  optional_repeated: (draw) =>
    `root ::= (${draw.pick(ATOMS)}${draw.pick(["?", "*", ""])}){${draw.size(10, 3_000)}}`,
  nested_repeats: (draw) => {
    let body = draw.pick(ATOMS);
    for (let depth = draw.size(2, 12); depth > 0; depth--) body = `(${body}){${draw.size(2, 200)}}`;
    return `root ::= ${body}`;
  },
  nested_stars: (draw) => {
    let body = draw.pick(ATOMS);
    for (let depth = draw.size(2, 4_000); depth > 0; depth--) body = `(${body})${draw.pick(QUANTIFIERS)}`;
    return `root ::= ${body}`;
  },
  doubling_rules: (draw) => {
    const depth = draw.size(4, 400);
    const rules = draw.list(
      depth,
      (i) => `r${i} ::= ${draw.pick([`r${i + 1} r${i + 1}`, `r${i + 1}? r${i + 1}?`])}`,
    );
    return ["root ::= r0", ...rules, `r${depth} ::= ${draw.pick(ATOMS)}`].join("\n");
  },
  ambiguous: (draw) =>
    `root ::= s\ns ::= ${draw.pick(["s s", '"a" s?', "s? s?", '"a" s "a" | "a"'])} | ${draw.pick(ATOMS)}`,
  ambiguous_choice: (draw) =>
    `root ::= (${draw.list(draw.size(2, 3_000), (i) => `"${"a".repeat(1 + i % 50)}"`).join(" | ")})+`,
  left_recursion: (draw) => {
    const length = draw.size(1, 500);
    return [
      "root ::= r0",
      ...draw.list(
        length,
        (i) => `r${i} ::= ${draw.pick(['""', '"a"?', ""])} r${(i + 1) % length} "a" | "b"`,
      ),
    ]
      .join("\n");
  },
  empty_loop: (draw) =>
    `root ::= (${draw.pick(['""', '"" | ""', '("")*', '""?'])})${draw.pick(["*", "+", "{0,1000}"])} "b"`,
  empty_rules: (draw) =>
    ["root ::= " + repeated("e ", draw.size(10, 20_000)), 'e ::= "" | e2', 'e2 ::= ""?'].join("\n"),
  deep: (draw) => {
    const depth = draw.size(10, 100_000);
    return `root ::= ${"(".repeat(depth)}"a"${")".repeat(depth)}`;
  },
  unbalanced: (draw) =>
    `root ::= ${draw.pick(["(", "[", '"', "(\n", "((|", "{"]).repeat(draw.size(1, 100_000))}`,
  many_rules: (draw) => {
    const count = draw.size(10, 20_000);
    return ["root ::= r0", ...draw.list(count, (i) => `r${i} ::= "a" r${draw.integer(0, count - 1)} | "b"`)]
      .join("\n");
  },
  long_literal: (draw) =>
    `root ::= "${repeated(draw.pick(["a", "😀", "\\x41", "\\U0001F600"]), draw.size(100, 900_000))}"`,
  wide_class: (draw) =>
    `root ::= [${repeated(draw.pick(["a-z", "a", "😀-🙏", "\\x00-\\xff"]), draw.size(10, 300_000))}]+`,
  odd_class: (draw) =>
    `root ::= ${
      draw.pick(["[z-a]", "[]", "[^]", "[a-]", "[\\U00110000-\\UFFFFFFFF]", "[\\x", "[^\\x00-\\U0010FFFF]"])
    }+`,
  token_rules: (draw) =>
    `root ::= ${draw.pick(["<[1]>", "!<[2]>", "<[2147483648]>", "<[-1]>", "<|end|>", "!<|end|>", "<["])}${
      draw.pick(QUANTIFIERS)
    }`,
  unknown_names: (draw) => `root ::= ${draw.list(draw.size(1, 2_000), (i) => `x${i}`).join(" | ")}`,
  comments: (draw) => `${"#".repeat(draw.size(1, 900_000))}\nroot ::= "a"`,
  random_grammar: (draw) => {
    const rules = draw.integer(1, 6);
    const body = () =>
      draw.list(
        draw.size(1, 12),
        () =>
          (draw.chance(40) ? `r${draw.integer(0, rules - 1)}` : draw.pick(ATOMS)) +
          (draw.chance(50) ? draw.pick(QUANTIFIERS) : "") + (draw.chance(15) ? " |" : ""),
      ).join(" ") + ` ${draw.pick(ATOMS)}`;
    return ["root ::= r0", ...draw.list(rules, (i) => `r${i} ::= ${body()}`)].join("\n");
  },
  random_signs: (draw) =>
    `root ::= ${
      draw.text([
        '"a"',
        '"',
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        "*",
        "?",
        "+",
        " ",
        "\n",
        "::=",
        "root",
        "1,",
        "\\",
        "a",
        "#",
      ], draw.size(4, 2_000))
    }`,
};

function boundedGrammar(draw: Draw): { name: string; grammar: string } {
  const kinds = draw.list(draw.integer(1, 3), () => draw.pick(Object.keys(REPETITIONS)));
  const body = kinds.reduce((inner, kind) => `(${inner})${REPETITIONS[kind](draw)}`, draw.pick(ATOMS));
  return {
    name: `bounds ${kinds.join(", ")}`,
    grammar: `root ::= ${draw.pick(["", '"b" '])}${body}${draw.pick(["", ' "c"'])}`,
  };
}

/** The ways by which GBNF comes in. */
const GRAMMAR_WAYS: Readonly<Record<string, (grammar: string, name: string) => RequestEntry>> = {
  inference: (grammar, name) =>
    jsonRequest({
      name,
      path: WORKER_ROUTES.inference.path,
      generates: true,
      json: () => ({ prompt: "Once", grammar, ...SHORT }),
    }),
  completions: (grammar, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.completions.path,
      generates: true,
      json: () => ({ prompt: "Once", grammar, ...SHORT }),
    }),
  chat: (grammar, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.chatCompletions.path,
      generates: true,
      json: () => ({ messages: MESSAGES, grammar, ...SHORT }),
    }),
};

/** A2: a grammar or schema that is slow to read or to keep to. */
export function drawSlowGrammar(draw: Draw): RequestEntry {
  if (draw.chance(55)) {
    const what = draw.pick(Object.keys(GRAMMARS));
    return wayOf(draw, GRAMMAR_WAYS, { what, content: GRAMMARS[what](draw) });
  }
  const what = draw.pick(Object.keys(SLOW_SCHEMAS));
  const schemas = draw.list(draw.chance(20) ? draw.size(1, 200) : 1, () => SLOW_SCHEMAS[what](draw));
  return wayOf(draw, SCHEMA_WAYS, { what, content: schemas });
}

/** A3: a grammar or schema whose bounds are reversed, huge or none. */
export function drawBounds(draw: Draw): RequestEntry {
  if (draw.chance(50)) {
    const { name, grammar } = boundedGrammar(draw);
    return wayOf(draw, GRAMMAR_WAYS, { what: name, content: grammar });
  }
  const what = draw.pick(Object.keys(BOUNDED_SCHEMAS));
  const schemas = draw.list(draw.chance(20) ? draw.size(1, 50) : 1, () => BOUNDED_SCHEMAS[what](draw));
  return wayOf(draw, SCHEMA_WAYS, { what, content: schemas });
}

/** By one of the ways. */
export function grammarRequest(grammar: string, name: string): RequestEntry {
  return GRAMMAR_WAYS.inference(grammar, name);
}

function wayOf<T>(
  draw: Draw,
  ways: Readonly<Record<string, (content: T, name: string) => RequestEntry>>,
  { what, content }: { what: string; content: T },
): RequestEntry {
  const way = draw.pick(Object.keys(ways));
  return ways[way](content, `${way}: ${what}`);
}

/** A2 and A3: grammars and schemas that take time or memory out of all proportion, and bounds that are none. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Draw, repeated } from "./draw.ts";
import { jsonRequest, type RequestEntry } from "./entry.ts";

type Maker<T> = (draw: Draw) => T;
type Schema = Record<string, unknown>;

const SHORT = { max_tokens: 8, temperature: 0.8, seed: 1 };
const MESSAGES = [{ role: "user", content: "Tell me a story." }];

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

const BOUNDS = [
  0,
  1,
  2,
  3,
  10,
  999,
  1_000,
  1_001,
  2_000,
  2_001,
  65_535,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
];
const LARGE_BOUNDS = [
  "9223372036854775807",
  "9223372036854775808",
  "18446744073709551615",
  "18446744073709551616",
  "-1",
  "00002",
  "1e3",
  "99999999999999999999999999",
];

function bound(draw: Draw): string {
  return draw.chance(30) ? draw.pick(LARGE_BOUNDS) : String(draw.pick(BOUNDS));
}

const REPETITIONS: Readonly<Record<string, Maker<string>>> = {
  any: (draw) => `{${bound(draw)},${bound(draw)}}`,
  exact: (draw) => `{${bound(draw)}}`,
  open: (draw) => `{${bound(draw)},}`,
  odd: (draw) =>
    draw.pick([
      "{}",
      "{,}",
      "{,3}",
      "{ 2 , 1 }",
      "{2,1",
      "{2;1}",
      "{a}",
      "{2,1}{2,1}",
      "{0,0}",
      "{0}",
      "{1,0}",
    ]),
  reversed: (draw) => {
    const least = draw.size(1, 2 ** 31);
    return `{${least},${draw.integer(0, least - 1)}}`;
  },
};

function boundedGrammar(draw: Draw): { name: string; grammar: string } {
  const kinds = draw.list(draw.integer(1, 3), () => draw.pick(Object.keys(REPETITIONS)));
  const body = kinds.reduce((inner, kind) => `(${inner})${REPETITIONS[kind](draw)}`, draw.pick(ATOMS));
  return {
    name: `bounds ${kinds.join(", ")}`,
    grammar: `root ::= ${draw.pick(["", '"b" '])}${body}${draw.pick(["", ' "c"'])}`,
  };
}

const number = (draw: Draw) => draw.pick([...BOUNDS, -1, 1.5, 1e15, 2 ** 53, 1e300, -(2 ** 31), -1e18]);

const BOUNDED_SCHEMAS: Readonly<Record<string, Maker<Schema>>> = {
  string_lengths: (draw) => ({ type: "string", minLength: number(draw), maxLength: number(draw) }),
  array_lengths: (draw) => ({
    type: "array",
    items: { type: "string" },
    minItems: number(draw),
    maxItems: number(draw),
  }),
  array_of_arrays: (draw) => ({
    type: "array",
    minItems: draw.size(1, 300),
    items: {
      type: "array",
      minItems: draw.size(1, 300),
      items: { type: "string", minLength: draw.size(1, 300) },
    },
  }),
  integers: (draw) => ({ type: "integer", minimum: number(draw), maximum: number(draw) }),
  numbers: (draw) => ({ type: "number", exclusiveMinimum: number(draw), exclusiveMaximum: number(draw) }),
  pattern: (draw) => ({ type: "string", pattern: `^(a|b)${draw.pick(Object.values(REPETITIONS))(draw)}$` }),
  nested_pattern: (draw) => ({
    type: "string",
    pattern: `^((a{${draw.size(1, 500)}}){${draw.size(1, 500)}}){${draw.size(1, 500)}}$`,
  }),
  properties: (draw) => ({
    type: "object",
    minProperties: number(draw),
    maxProperties: number(draw),
    additionalProperties: true,
  }),
  prefix_items: (draw) => ({
    type: "array",
    prefixItems: draw.list(draw.size(1, 500), () => ({ type: "integer" })),
    minItems: number(draw),
    maxItems: number(draw),
  }),
  contains: (draw) => ({
    type: "array",
    contains: { type: "string" },
    minContains: number(draw),
    maxContains: number(draw),
  }),
};

const SLOW_SCHEMAS: Readonly<Record<string, Maker<Schema>>> = {
  optional_properties: (draw) => ({
    type: "object",
    properties: properties(draw.size(10, 2_000)),
    required: [],
  }),
  required_properties: (draw) => {
    const all = properties(draw.size(10, 2_000));
    return { type: "object", properties: all, required: Object.keys(all) };
  },
  open_properties: (draw) => ({
    type: "object",
    properties: properties(draw.size(10, 500)),
    additionalProperties: { type: "string" },
  }),
  deep_objects: (draw) => deep(draw.size(2, 120), (inner) => ({ type: "object", properties: { a: inner } })),
  deep_arrays: (draw) => deep(draw.size(2, 120), (inner) => ({ type: "array", items: inner })),
  deep_choices: (draw) => deep(draw.size(2, 30), (inner) => ({ anyOf: [inner, inner] })),
  all_of: (draw) => ({
    allOf: draw.list(draw.size(2, 300), (i) => ({ type: "object", properties: properties(1 + i % 7) })),
  }),
  any_of: (draw) => ({ anyOf: draw.list(draw.size(2, 2_000), (i) => ({ const: `value ${i}` })) }),
  one_of_objects: (draw) => ({
    oneOf: draw.list(draw.size(2, 300), (i) => ({ type: "object", properties: properties(i % 9) })),
  }),
  long_enum: (draw) => ({ enum: draw.list(draw.size(2, 20_000), (i) => `choice ${i}`) }),
  long_const: (draw) => ({
    const: repeated(draw.pick(["a", "😀", '"', "\\", "\u0000"]), draw.size(10, 500_000)),
  }),
  self_reference: (draw) =>
    draw.pick<Schema>([
      { $ref: "#" },
      { type: "object", properties: { next: { $ref: "#" } } },
      { type: "array", items: { $ref: "#" } },
      { anyOf: [{ $ref: "#" }, { $ref: "#" }] },
      {
        $ref: "#/definitions/a",
        definitions: { a: { $ref: "#/definitions/b" }, b: { $ref: "#/definitions/a" } },
      },
      { $ref: "#/properties/x/y/z" },
      { $ref: "https://example.invalid/schema.json" },
      { $ref: "/etc/passwd" },
    ]),
  reference_fan: (draw) => {
    const depth = draw.size(2, 60);
    const definitions = Object.fromEntries(draw.list(depth, (i) => [`d${i}`, {
      type: "object",
      properties: { a: { $ref: `#/definitions/d${i + 1}` }, b: { $ref: `#/definitions/d${i + 1}` } },
    }]));
    return { $ref: "#/definitions/d0", definitions: { ...definitions, [`d${depth}`]: { type: "null" } } };
  },
  patterns: (draw) => ({
    type: "string",
    pattern: draw.pick(["^", ""]) +
      draw.text([
        "a?",
        "(b|c)*",
        "[^x]",
        "\\d+",
        ".",
        "(",
        ")",
        "|",
        "{2,1}",
        "[",
        "\\",
        "(?:d)",
        "(?=e)",
        "^",
        "$",
      ], draw.size(2, 5_000)) + draw.pick(["$", ""]),
  }),
  deep_pattern: (draw) => {
    const depth = draw.size(10, 100_000);
    return { type: "string", pattern: `^${"(".repeat(depth)}a${")".repeat(depth)}$` };
  },
  optional_pattern: (draw) => ({ type: "string", pattern: `^${repeated("a?", draw.size(10, 10_000))}b$` }),
  long_names: (draw) => ({
    type: "object",
    properties: { [repeated(draw.pick(["a", "😀", '"']), draw.size(10, 200_000))]: {} },
  }),
  formats: (draw) => ({
    type: "string",
    format: draw.pick(["date-time", "uuid", "date", "time", "ipv4", "no such", "../../x"]),
  }),
  odd_types: (draw) =>
    draw.pick<Schema>([
      { type: ["string", "null", "object"] },
      { type: "any" },
      { type: 5 },
      { type: [] },
      { type: "object", properties: { x: true, y: false, z: null } },
      { type: "object", properties: [] },
      { anyOf: [] },
      { enum: [] },
      { not: {} },
      { type: "object", required: [1, null] },
      { items: [] },
      { allOf: [true, false] },
    ]),
};

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

const tool = (schema: Schema, i: number) => ({
  type: "function",
  function: { name: `tool_${i}`, description: "A tool.", parameters: schema },
});

/** The ways by which a schema comes in. */
const SCHEMA_WAYS: Readonly<Record<string, (schemas: readonly Schema[], name: string) => RequestEntry>> = {
  inference: ([schema], name) =>
    jsonRequest({
      name,
      path: WORKER_ROUTES.inference.path,
      generates: true,
      json: () => ({ prompt: "Once", json_schema: schema, ...SHORT }),
    }),
  completions: ([schema], name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.completions.path,
      generates: true,
      json: () => ({ prompt: "Once", json_schema: schema, ...SHORT }),
    }),
  response_format: ([schema], name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.chatCompletions.path,
      generates: true,
      json: () => ({
        messages: MESSAGES,
        response_format: { type: "json_schema", json_schema: { name: "x", schema } },
        ...SHORT,
      }),
    }),
  tools: (schemas, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.chatCompletions.path,
      generates: true,
      json: () => ({ messages: MESSAGES, tools: schemas.map(tool), tool_choice: "required", ...SHORT }),
    }),
  lazy_tools: (schemas, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.chatCompletions.path,
      generates: true,
      json: () => ({ messages: MESSAGES, tools: schemas.map(tool), ...SHORT }),
    }),
  anthropic_tools: (schemas, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.messages.path,
      generates: true,
      json: () => ({
        messages: MESSAGES,
        max_tokens: 8,
        tools: schemas.map((input_schema, i) => ({ name: `tool_${i}`, input_schema })),
        tool_choice: { type: "any" },
      }),
    }),
  responses: ([schema], name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.responses.path,
      generates: true,
      json: () => ({
        input: "Tell me.",
        max_output_tokens: 8,
        text: { format: { type: "json_schema", name: "x", schema } },
      }),
    }),
  ollama_format: ([schema], name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.ollamaChat.path,
      generates: true,
      json: () => ({ model: "any", messages: MESSAGES, format: schema, options: { num_predict: 8 } }),
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

/** By each of the ways. */
export function schemaRequests(schema: Schema, name: string): RequestEntry[] {
  return Object.entries(SCHEMA_WAYS).map(([way, request]) => request([schema], `${way}: ${name}`));
}

function wayOf<T>(
  draw: Draw,
  ways: Readonly<Record<string, (content: T, name: string) => RequestEntry>>,
  { what, content }: { what: string; content: T },
): RequestEntry {
  const way = draw.pick(Object.keys(ways));
  return ways[way](content, `${way}: ${what}`);
}

function properties(count: number): Record<string, Schema> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`property_${i}`, { type: i % 2 ? "string" : "integer" }]),
  );
}

function deep(depth: number, around: (inner: Schema) => Schema): Schema {
  let schema: Schema = { type: "integer" };
  for (let i = 0; i < depth; i++) schema = around(schema);
  return schema;
}

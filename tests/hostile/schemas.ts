/** Schemas for A2 and A3, and the ways by which a schema comes in. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Draw, repeated } from "./draw.ts";
import { jsonRequest, type RequestEntry } from "./entry.ts";
import { BOUNDS, MESSAGES, REPETITIONS, SHORT } from "./repetitions.ts";

type Maker<T> = (draw: Draw) => T;
/** A JSON schema, or what is sent as one. */
export type Schema = Record<string, unknown>;

const number = (draw: Draw) => draw.pick([...BOUNDS, -1, 1.5, 1e15, 2 ** 53, 1e300, -(2 ** 31), -1e18]);

/** Whose bounds are reversed, huge or none. */
export const BOUNDED_SCHEMAS: Readonly<Record<string, Maker<Schema>>> = {
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

/** That are slow to read or to keep to. */
export const SLOW_SCHEMAS: Readonly<Record<string, Maker<Schema>>> = {
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
  deep_choices: (draw) => deep(draw.size(2, 20), (inner) => ({ anyOf: [inner, inner] })),
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

const tool = (schema: Schema, i: number) => ({
  type: "function",
  function: { name: `tool_${i}`, description: "A tool.", parameters: schema },
});

/** The ways by which a schema comes in. */
export const SCHEMA_WAYS: Readonly<
  Record<string, (schemas: readonly Schema[], name: string) => RequestEntry>
> = {
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

/** By each of the ways. */
export function schemaRequests(schema: Schema, name: string): RequestEntry[] {
  return Object.entries(SCHEMA_WAYS).map(([way, request]) => request([schema], `${way}: ${name}`));
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

/** `deno run -A tools/api_reference.ts`: writes `docs/api.md` out of the same OpenAPI documents that daemons serve. */
import { API_DOCUMENTS } from "../protocol/api_docs.ts";
import { ERROR_STATUS } from "../protocol/errors.ts";
import { projectRoot } from "./project_files.ts";

/** Columns after which an object is written over several lines. */
const LINE_COLUMNS = 100;

// deno-lint-ignore no-explicit-any
type Schema = any;

interface Operation {
  summary: string;
  security: unknown[];
  parameters?: { name: string; in: string; required: boolean; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>;
}

/** The whole text. */
export function apiReference(): string {
  const parts = Object.values(API_DOCUMENTS).map((document) => document() as Schema);
  return [
    "# HTTP interfaces",
    "",
    "Made by `tools/api_reference.ts` out of what the daemons serve at `/openapi.json`. Types are written as in TypeScript:",
    "`name?` may be left out, ` = value` is then meant; a stream's `events` are server-sent events, after the last of which",
    "comes `[DONE]`. Except where it says open, a request needs `Authorization: Bearer KEY`. Every answer has",
    "`X-Correlation-Id`, the one of the request or a new one. What is no success is",
    '`{"error":{"code","message","details","correlation_id"}}`, on the routes of other programs in their own form.',
    "",
    "| status | codes |",
    "| --- | --- |",
    ...codesByStatus().map(([status, codes]) =>
      `| ${status} | ${codes.map((code) => `\`${code}\``).join(", ")} |`
    ),
    "",
    ...parts.flatMap(part),
  ].join("\n");
}

function codesByStatus(): [status: number, codes: string[]][] {
  const statuses = [...new Set(Object.values(ERROR_STATUS))].sort((a, b) => a - b);
  return statuses.map((status) => [
    status,
    Object.entries(ERROR_STATUS).filter(([, value]) => value === status).map(([code]) => code),
  ]);
}

function part({ info, paths }: Schema): string[] {
  const operations = Object.entries(paths as Record<string, Record<string, Operation>>).flatMap(
    ([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  return [
    `## ${info.title}`,
    "",
    info.description,
    "",
    ...operations.flatMap(({ path, method, operation }) =>
      route(`${method.toUpperCase()} ${path}`, operation)
    ),
  ];
}

function route(title: string, operation: Operation): string[] {
  const { summary, security, parameters = [], requestBody, responses } = operation;
  const shapes: [string, Schema][] = [
    ...parameters.filter(({ in: place }) => place === "query").map((
      { name, required, schema },
    ): [string, Schema] => [`query ${name}${required ? "" : "?"}`, schema]),
    ...content("body", requestBody?.content),
    ...Object.entries(responses).filter(([status]) => status !== "default").flatMap(([status, response]) =>
      response.content === undefined
        ? [[status, undefined] as [string, Schema]]
        : content(status, response.content)
    ),
  ];
  const lines = shapes.map(([name, schema]) => schema === undefined ? name : `${name}: ${typeOf(schema)}`);
  return [
    `### \`${title}\``,
    "",
    `${summary}${security.length === 0 ? " Open." : ""}`,
    "",
    "```ts",
    ...lines,
    "```",
    "",
  ];
}

function content(name: string, types: Record<string, { schema?: Schema }> | undefined): [string, Schema][] {
  return Object.entries(types ?? {}).map(([type, { schema }]) => {
    if (type === "application/json") return [name, schema ?? {}];
    if (type === "text/event-stream") return [`${name} events`, schema?.["x-event"] ?? schema ?? {}];
    return [`${name} ${type}`, { type: "bytes" }];
  });
}

/** A schema as a type, on one line where it fits. */
function typeOf(schema: Schema, indent = ""): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) {
    return schema.enum.map((value: unknown) => JSON.stringify(value)).join(" | ");
  }
  const union = schema.anyOf ?? schema.oneOf;
  if (union !== undefined) return union.map((one: Schema) => typeOf(one, indent)).join(" | ");
  if (schema.allOf !== undefined) return schema.allOf.map((one: Schema) => typeOf(one, indent)).join(" & ");
  if (Array.isArray(schema.type)) return schema.type.join(" | ");
  switch (schema.type) {
    case "object":
      return objectType(schema, indent);
    case "array": {
      const item = typeOf(schema.items ?? {}, indent);
      return / \| /.test(item) && !item.startsWith("{") ? `(${item})[]` : `${item}[]`;
    }
    case "integer":
    case "number":
      return `${schema.type}${range(schema.minimum ?? schema.exclusiveMinimum, schema.maximum)}`;
    case undefined:
      return "unknown";
    default:
      return schema.type;
  }
}

function objectType(
  { properties = {}, required = [], additionalProperties }: Schema,
  indent: string,
): string {
  const inner = `${indent}  `;
  const fields = Object.entries(properties as Record<string, Schema>).map(([name, schema]) => {
    const standard = schema.default === undefined ? "" : ` = ${JSON.stringify(schema.default)}`;
    const optional = required.includes(name) && standard === "" ? "" : "?";
    return `${name}${optional}: ${typeOf(schema, inner)}${standard}`;
  });
  const others = additionalProperties && Object.keys(additionalProperties).length > 0
    ? [`[name]: ${typeOf(additionalProperties, inner)}`]
    : [];
  const all = [...fields, ...others];
  if (all.length === 0) return "object";
  const line = `{ ${all.join(", ")} }`;
  if (line.length + indent.length <= LINE_COLUMNS && !line.includes("\n")) return line;
  return `{\n${all.map((field) => `${inner}${field},\n`).join("")}${indent}}`;
}

/** Bounds that say more than that it is a number of JavaScript's. */
function range(minimum?: number, maximum?: number): string {
  const from = minimum === undefined || minimum <= Number.MIN_SAFE_INTEGER ? "" : String(minimum);
  const to = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? "" : String(maximum);
  return from === "" && to === "" ? "" : ` ${from}..${to}`;
}

if (import.meta.main) {
  const path = `${projectRoot()}/docs/api.md`;
  Deno.writeTextFileSync(path, apiReference());
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "-q", path] }).output();
}

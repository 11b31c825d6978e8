/** OpenAPI 3.1 documents made of the route tables and the schemas, so that they say what is checked. */
import * as z from "zod";
import { type Dialect, errorIn } from "./dialects.ts";
import { ErrorEnvelopeSchema, RbeeError } from "./errors.ts";
import type { RouteSpec } from "./routes.ts";
import { VERSION } from "./version.ts";

/** What is known of a route beside its {@linkcode RouteSpec}. */
export interface RouteDoc {
  /** One line. */
  summary: string;
  /** Of a JSON body. */
  body?: z.ZodType;
  /** Of the query string. */
  query?: z.ZodType;
  /** Of a JSON answer. */
  answer?: z.ZodType;
  /** Of one event of the answer, where that is a stream; with `answer`, where the request chooses. */
  events?: z.ZodType;
  /** Media type of a body or an answer that is no JSON. */
  bytes?: { body?: string; answer?: string };
  /** The answer's status; default 200. */
  status?: number;
}

/** A part's document. */
export interface ApiDescription {
  /** The part's name. */
  title: string;
  /** One line. */
  description: string;
  /** Every route with what is known of it. */
  routes: readonly (readonly [RouteSpec, RouteDoc])[];
}

type Json = Record<string, unknown>;

/** The document. */
export function openApiDocument({ title, description, routes }: ApiDescription): Json {
  const paths: Record<string, Json> = {};
  for (const [spec, doc] of routes) {
    const path = spec.path.replace(/:([a-z_]+)/g, "{$1}");
    (paths[path] ??= {})[spec.method.toLowerCase()] = operation(spec, doc);
  }
  return {
    openapi: "3.1.0",
    info: { title, description, version: VERSION },
    paths,
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        apiKey: { type: "apiKey", in: "header", name: "X-Api-Key" },
      },
    },
  };
}

function operation(spec: RouteSpec, doc: RouteDoc): Json {
  const dialect = spec.dialect ?? "rbee";
  const names = [...spec.path.matchAll(/:([a-z_]+)/g)].map(([, name]) => name);
  const parameters = [
    ...names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
    ...queryParameters(doc.query),
  ];
  const body = doc.bytes?.body ? bytes(doc.bytes.body) : json(doc.body, "input");
  return {
    summary: doc.summary,
    ...spec.auth === "none" ? { security: [] } : {
      security: [{ bearer: [] }, ...dialect === "anthropic" ? [{ apiKey: [] }] : []],
    },
    ...parameters.length > 0 ? { parameters } : {},
    ...body === undefined ? {} : { requestBody: { content: body } },
    responses: {
      [String(doc.status ?? 200)]: { description: "As asked.", ...answerContent(doc) },
      default: {
        description: "An error; its status is that of its code.",
        content: { "application/json": errorContent(dialect) },
      },
    },
  };
}

function answerContent(doc: RouteDoc): Json {
  const content = {
    ...doc.bytes?.answer ? bytes(doc.bytes.answer) : json(doc.answer, "output"),
    ...doc.events === undefined ? {} : { "text/event-stream": { schema: schemaOf(doc.events, "output") } },
  };
  return Object.keys(content).length > 0 ? { content } : {};
}

function errorContent(dialect: Dialect): Json {
  if (dialect === "rbee") return { schema: schemaOf(ErrorEnvelopeSchema, "output") };
  return {
    example: errorIn(dialect, new RbeeError("INVALID_REQUEST", "What is wrong, and what to do."), "…"),
  };
}

function queryParameters(query: z.ZodType | undefined): Json[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(query, "input") as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: "query",
    required: required.includes(name),
    schema,
  }));
}

function json(schema: z.ZodType | undefined, io: "input" | "output"): Json | undefined {
  return schema === undefined ? undefined : { "application/json": { schema: schemaOf(schema, io) } };
}

function bytes(type: string): Json {
  return { [type]: {} };
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return rest;
}

/** What a key lets its requests have: models, machines, forms of answers. Pure; everything that admits requests asks here. */
import { RbeeError } from "../protocol/errors.ts";
import { type KeySettings, matchesModel } from "../protocol/key_schemas.ts";
import type { Priority } from "./queue/fair_queue.ts";

/** See above. What is absent is not limited. */
export interface RequestLimits {
  /** References, or beginnings of references with `*` behind them. */
  readonly models?: readonly string[];
  /** Machines that they may run on. */
  readonly nodes?: ReadonlySet<string>;
  /** Tokens of a request and its answers together. */
  readonly context?: number;
  /** Answers may be bound to a grammar, a schema, or the forms of tools. */
  readonly grammar: boolean;
  /** A model may be downloaded for them. */
  readonly downloads: boolean;
  /** The most urgent that they may be. */
  readonly priority: Priority;
}

/** The owner's. */
export const NO_LIMITS: RequestLimits = { grammar: true, downloads: true, priority: "interactive" };

/** Those of a key. */
export function requestLimitsOf(
  { models, nodes, context, grammar, downloads, priority }: KeySettings,
): RequestLimits {
  return { models, nodes: nodes && new Set(nodes), context, grammar, downloads, priority };
}

/** Whether a model may be used. Whether there is such a model is another question, and not answered to who may not. */
export function mayUse({ models }: RequestLimits, model: string): boolean {
  return models === undefined || models.some((one) => matchesModel(one, model));
}

/** How urgent a request is that asks for so much, or does not say. */
export function mostUrgent(limits: RequestLimits, asked: Priority | undefined): Priority {
  return asked === "batch" ? asked : limits.priority;
}

/** @throws {RbeeError} `INVALID_REQUEST`: who says how urgent it is need not be told later that it was not. */
export function requirePriority(limits: RequestLimits, asked: Priority | undefined): void {
  if (asked === undefined || asked === mostUrgent(limits, asked)) return;
  throw notAllowed("priority", `may not be ${asked} with this key; leave it out, or say ${limits.priority}`);
}

/** @throws {RbeeError} `NODE_NOT_FOUND`, whether there is such a machine or not. */
export function requireNode({ nodes }: RequestLimits, asked: string | undefined): void {
  if (asked === undefined || nodes === undefined || nodes.has(asked)) return;
  throw new RbeeError("NODE_NOT_FOUND", `There is no node ${asked} for this key.`);
}

/** @throws {RbeeError} `INVALID_REQUEST` when its answer is to have a form, and may have none. */
export function requireForm({ grammar }: RequestLimits, request: Readonly<Record<string, unknown>>): void {
  const field = grammar ? undefined : formField(request);
  if (field !== undefined) throw notAllowed(field, "may not be used with this key");
}

/**
 * Checks how large a request is: its prompts and all of its answers together.
 *
 * @throws {RbeeError} `INVALID_REQUEST` that names the field.
 */
export function requireContext(
  context: number | undefined,
  asked: {
    readonly promptTokens: number;
    readonly prompts: number;
    readonly choices: number;
    readonly answerTokens?: number;
    /** Answers may be shorter than that, nobody has asked for it. */
    readonly bounded?: boolean;
    readonly fields: { readonly prompt: string; readonly answer: string };
  },
): void {
  if (context === undefined) return;
  const { promptTokens, prompts, choices, answerTokens = 1, bounded, fields } = asked;
  const answers = prompts * choices;
  const total = promptTokens + answers * (bounded ? Math.min(1, answerTokens) : answerTokens);
  if (total <= context) return;
  const field = promptTokens + answers > context ? fields.prompt : fields.answer;
  throw notAllowed(
    field,
    `makes ${total} tokens of the request and its answers, and with this key they may have ${context} together`,
    "too_big",
  );
}

/** The field that binds an answer to a form. */
function formField(request: Readonly<Record<string, unknown>>): string | undefined {
  const { grammar, json_schema, response_format, text, tools } = request;
  if (typeof grammar === "string" && grammar !== "") return "grammar";
  if (isObject(json_schema)) return "json_schema";
  if (isObject(response_format) && response_format.type !== "text") return "response_format";
  if (isObject(text) && isObject(text.format) && text.format.type !== "text") return "text.format";
  // What a model calls has the form of its arguments.
  if (Array.isArray(tools) && tools.length > 0) return "tools";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function notAllowed(field: string, message: string, constraint = "not_allowed"): RbeeError {
  return new RbeeError("INVALID_REQUEST", `The request is not valid: ${field}: ${message}.`, {
    details: { errors: [{ field, constraint, message }] },
  });
}

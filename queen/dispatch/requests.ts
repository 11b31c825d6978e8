/** What the queen has to know of a request before it sends it anywhere. */
import { RbeeError } from "../../protocol/errors.ts";
import { DEFAULT_MAX_TOKENS } from "../../protocol/limits.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import { type Caller, may } from "../../protocol/rights.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { PromptText } from "../cluster/prefixes.ts";
import { CHARS_PER_TOKEN } from "../limits.ts";
import { mayUse, NO_LIMITS, type RequestLimits } from "../request_limits.ts";

/** Most models that an error names. */
const MODELS_NAMED_MAX = 20;

/** Where a model is looked for, and what the key of the request lets it have; absent: all. */
export interface ModelLookup {
  readonly cluster: Cluster;
  readonly limits?: RequestLimits;
}

/**
 * The model that a client means: a reference, the end of one that only one model of the cluster has, or nothing where
 * only one is loaded. What its key may not use is not there for it, whether there is such a model or not.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND` that names those there are; `INVALID_REQUEST` when it names none of several.
 */
export function modelOf(name: unknown, { cluster, limits = NO_LIMITS }: ModelLookup): string {
  const isOwn = (model: string) => mayUse(limits, model);
  if (name === undefined || name === null || name === "") {
    const loaded = [...cluster.loadedModels()].filter(isOwn);
    if (loaded.length === 1) return loaded[0];
    throw new RbeeError("INVALID_REQUEST", `Name a model.${listed({ cluster, limits })}`, {
      details: { errors: [{ field: "model", constraint: "required", message: "is missing" }] },
    });
  }
  if (typeof name !== "string") {
    throw new RbeeError("INVALID_REQUEST", "The model must be named by a text.", {
      details: { errors: [{ field: "model", constraint: "invalid_type", message: "must be a string" }] },
    });
  }
  if (cluster.hasModel(name) && isOwn(name)) return name;
  const ending = [...cluster.models()].filter((model) =>
    (model.endsWith(`:${name}`) || model.endsWith(`/${name}`)) && isOwn(model)
  );
  if (ending.length === 1) return ending[0];
  let model: string;
  try {
    model = parseModelRef(name).text;
  } catch {
    throw noSuchModel(name, { cluster, limits });
  }
  requireModel(model, { cluster, limits });
  return model;
}

/**
 * Refuses a reference to a model that a key may not use.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`.
 */
export function requireModel(model: string, { cluster, limits = NO_LIMITS }: ModelLookup): void {
  if (!mayUse(limits, model)) throw noSuchModel(model, { cluster, limits });
}

/** Models of the cluster that a key may use. */
export function modelsFor({ cluster, limits = NO_LIMITS }: ModelLookup): string[] {
  return [...cluster.models()].filter((model) => mayUse(limits, model));
}

/**
 * Files are named by paths of machines: only those that a hive has listed can be named by a client, whose key says nothing
 * of whether it may look around there.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`.
 */
export function requireKnownFile(model: string, by: ModelLookup & { caller: Caller }): void {
  const { caller, cluster } = by;
  if (may(caller, "owner") || !model.startsWith("file:")) return;
  if (cluster.hasModel(model)) return;
  throw new RbeeError("MODEL_NOT_FOUND", `There is no such file in this cluster.${listed(by)}`);
}

function noSuchModel(name: string, of: ModelLookup): RbeeError {
  const where = of.limits?.models === undefined ? "in this cluster" : "for this key";
  const shown = JSON.stringify(name.slice(0, 200));
  return new RbeeError("MODEL_NOT_FOUND", `There is no model ${shown} ${where}.${listed(of)}`);
}

function listed(of: ModelLookup): string {
  const models = modelsFor(of);
  const some = models.slice(0, MODELS_NAMED_MAX).join(", ");
  return models.length === 0 ? "" : ` There ${models.length === 1 ? "is" : "are"} ${some}.`;
}

/** Tokens that a prompt probably has. */
export function promptTokensOf(text: PromptText): number {
  return Math.ceil(text.chars / CHARS_PER_TOKEN);
}

/** Tokens that prompt and answers will probably have together. */
export function expectedTokens(
  text: PromptText,
  what: { maxTokens: unknown; usual: number | undefined; answers?: number },
): number {
  const { maxTokens, usual = DEFAULT_MAX_TOKENS, answers = 1 } = what;
  const most = typeof maxTokens === "number" && maxTokens > 0 ? maxTokens : DEFAULT_MAX_TOKENS;
  return promptTokensOf(text) + answers * Math.min(most, usual);
}

/** What the queen has to know of a request before she sends it anywhere. */
import { RbeeError } from "../../protocol/errors.ts";
import { DEFAULT_MAX_TOKENS } from "../../protocol/limits.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import { type Caller, may } from "../../protocol/rights.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { PromptText } from "../cluster/prefixes.ts";
import { CHARS_PER_TOKEN } from "../limits.ts";

/** Most models that an error names. */
const MODELS_NAMED_MAX = 20;

/**
 * The model that a client means: a reference, the end of one that only one model of the cluster has, or nothing where
 * only one is loaded.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND` that names those there are; `INVALID_REQUEST` when it names none of several.
 */
export function modelOf(name: unknown, cluster: Cluster): string {
  if (name === undefined || name === null || name === "") {
    const loaded = [...cluster.loadedModels()];
    if (loaded.length === 1) return loaded[0];
    throw new RbeeError("INVALID_REQUEST", `Name a model.${listed(cluster)}`, {
      details: { errors: [{ field: "model", constraint: "required", message: "is missing" }] },
    });
  }
  if (typeof name !== "string") {
    throw new RbeeError("INVALID_REQUEST", "The model must be named by a text.", {
      details: { errors: [{ field: "model", constraint: "invalid_type", message: "must be a string" }] },
    });
  }
  if (cluster.hasModel(name)) return name;
  const ending = [...cluster.models()].filter((model) =>
    model.endsWith(`:${name}`) || model.endsWith(`/${name}`)
  );
  if (ending.length === 1) return ending[0];
  try {
    return parseModelRef(name).text;
  } catch {
    throw new RbeeError(
      "MODEL_NOT_FOUND",
      `There is no model ${JSON.stringify(name.slice(0, 200))} in this cluster.${listed(cluster)}`,
    );
  }
}

/**
 * Files are named by paths of machines: only those that a hive has listed can be named by a client, whose key says nothing
 * of whether it may look around there.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`.
 */
export function requireKnownFile(model: string, by: { caller: Caller; cluster: Cluster }): void {
  const { caller, cluster } = by;
  if (may(caller, "owner") || !model.startsWith("file:")) return;
  if (cluster.hasModel(model)) return;
  throw new RbeeError("MODEL_NOT_FOUND", `There is no such file in this cluster.${listed(cluster)}`);
}

function listed(cluster: Cluster): string {
  const models = [...cluster.models()];
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

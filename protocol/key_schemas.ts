/** Keys of a queen (SPEC §14), as configurations and its interface have them. */
import * as z from "zod";
import { ModelRefText } from "./model_ref.ts";
import { NodeName } from "./node_name.ts";
import { Priority } from "./priority.ts";
import { Right } from "./rights.ts";

const MODELS_MAX = 100;
const NODES_MAX = 100;
const MODEL_BEGINNING = /^(?:hf|file|builtin):[^*\s]{0,500}\*$/;

/** Models: a reference, or how references begin, with `*` at the end. */
export const ModelPattern = z.union([z.string().regex(MODEL_BEGINNING), ModelRefText], {
  error: "expected a model reference, or its beginning with * at the end: hf:OWNER/*",
});

/** What a key is called. */
export const KeyName = z.string().regex(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
  "expected letters, digits, . _ and -",
);

/** Whether a {@linkcode ModelPattern} stands for a model. */
export function matchesModel(pattern: string, model: string): boolean {
  return pattern.endsWith("*") ? model.startsWith(pattern.slice(0, -1)) : model === pattern;
}

/** How much a key may have, each without what holds where nothing is said. */
const LIMITS = {
  /** Of what there is, beside the others. */
  share: z.number().min(0.01).max(1_000),
  requests_per_minute: z.int().min(1),
  tokens_per_minute: z.int().min(1),
  tokens_per_day: z.int().min(1),
  /** Keys of one cache group may find in a worker's cache what others of it have asked; absent: only its own. */
  cache_group: KeyName,
  /** It has no other models; absent: all. */
  models: z.array(ModelPattern).min(1).max(MODELS_MAX),
  /** Machines that its requests run on; absent: all. */
  nodes: z.array(NodeName).min(1).max(NODES_MAX),
  /** Most tokens of a request and its answers together. */
  context: z.int().min(1),
  /** Whether it may ask for grammars, JSON and tools. */
  grammar: z.boolean(),
  /** Whether a model may be downloaded for its requests. */
  downloads: z.boolean(),
  /** The most urgent that its requests may be, and what they are when they do not say. */
  priority: Priority,
};

/** What a key may do, beside its name and its secret. */
export const KEY_FIELDS = {
  /** One, or several. */
  rights: z.union([Right, z.array(Right).min(1).max(Right.options.length)]).default("client"),
  /** With the right `hive`: the one machine that it may report. */
  node: NodeName.optional(),
  share: LIMITS.share.default(1),
  requests_per_minute: LIMITS.requests_per_minute.optional(),
  tokens_per_minute: LIMITS.tokens_per_minute.optional(),
  tokens_per_day: LIMITS.tokens_per_day.optional(),
  cache_group: LIMITS.cache_group.optional(),
  models: LIMITS.models.optional(),
  nodes: LIMITS.nodes.optional(),
  context: LIMITS.context.optional(),
  grammar: LIMITS.grammar.default(true),
  downloads: LIMITS.downloads.default(true),
  priority: LIMITS.priority.default("interactive"),
};

/** The rule between them. */
export function boundToNode<Schema extends z.ZodType<{ rights: Right | Right[]; node?: string }>>(
  schema: Schema,
): Schema {
  return schema.refine(({ rights, node }) => (node !== undefined) === [rights].flat().includes("hive"), {
    path: ["node"],
    error: "a key with the right hive needs the name of its machine here, and no other key does",
    when: ({ value }) => typeof value === "object" && value !== null && "rights" in value,
  }) as Schema;
}

/** What a key may do, checked. */
export const KeySettings = boundToNode(z.strictObject(KEY_FIELDS));
/** See {@linkcode KeySettings}. */
export type KeySettings = z.infer<typeof KeySettings>;

/** `POST /v2/keys`. */
export const AddKeyRequest = boundToNode(z.strictObject({ name: KeyName, ...KEY_FIELDS }));
/** A checked request. */
export type AddKeyRequest = z.infer<typeof AddKeyRequest>;
/** A request as a caller writes it. */
export type AddKeyInput = z.input<typeof AddKeyRequest>;

/** `POST /v2/keys/:name`: what is absent stays, `null` is as if it had never been set. */
export const ChangeKeyRequest = z.strictObject({
  share: LIMITS.share.nullish(),
  requests_per_minute: LIMITS.requests_per_minute.nullish(),
  tokens_per_minute: LIMITS.tokens_per_minute.nullish(),
  tokens_per_day: LIMITS.tokens_per_day.nullish(),
  cache_group: LIMITS.cache_group.nullish(),
  models: LIMITS.models.nullish(),
  nodes: LIMITS.nodes.nullish(),
  context: LIMITS.context.nullish(),
  grammar: LIMITS.grammar.nullish(),
  downloads: LIMITS.downloads.nullish(),
  priority: LIMITS.priority.nullish(),
});
/** A checked request. */
export type ChangeKeyRequest = z.infer<typeof ChangeKeyRequest>;

/** A key, without its secret. */
export const KeyInfo = z.object({
  name: z.string(),
  rights: z.array(Right),
  node: z.string().nullable(),
  share: z.number(),
  requests_per_minute: z.int().nullable(),
  tokens_per_minute: z.int().nullable(),
  tokens_per_day: z.int().nullable(),
  cache_group: z.string().nullable(),
  models: z.array(z.string()).nullable().default(null),
  nodes: z.array(z.string()).nullable().default(null),
  context: z.int().nullable().default(null),
  grammar: z.boolean().default(true),
  downloads: z.boolean().default(true),
  priority: Priority.default("interactive"),
  /** The first six hexadecimal digits of its SHA-256, as logs show them. */
  fp6: z.string(),
  /** Where it stands: keys of the configuration are changed there. */
  source: z.enum(["config", "queen"]),
  created_unix: z.number().nullable(),
  rotated_unix: z.number().nullable(),
});
/** See {@linkcode KeyInfo}. */
export type KeyInfo = z.infer<typeof KeyInfo>;

/** `GET /v2/keys`. */
export const KeysResponse = z.object({ keys: z.array(KeyInfo) });

/** Answer of `POST /v2/keys` and of a rotation. The key itself is shown only here. */
export const NewKeyResponse = KeyInfo.extend({ key: z.string() });
/** See {@linkcode NewKeyResponse}. */
export type NewKeyResponse = z.infer<typeof NewKeyResponse>;

const Day = z.string().regex(/^\d{4}-\d{2}-\d{2}$/, "expected YYYY-MM-DD");

/** Query of `GET /v2/usage`. */
export const UsageQuery = z.strictObject({
  /** Only of this key; `owner` is the daemon's own. */
  key: z.string().min(1).max(128).optional(),
  /** From this day on, UTC; default: 30 days ago. */
  from: Day.optional(),
  /** Up to this day, included; default: today. */
  to: Day.optional(),
});

/** What a key has used of a model on one day. */
export const UsageRow = z.object({
  day: z.string(),
  key: z.string(),
  model: z.string(),
  requests: z.int(),
  /** Prompt tokens, cached ones included. */
  tokens_read: z.int(),
  tokens_cached: z.int(),
  tokens_made: z.int(),
  /** That workers had its requests. */
  seconds: z.number(),
});
/** See {@linkcode UsageRow}. */
export type UsageRow = z.infer<typeof UsageRow>;

/** Answer of `GET /v2/usage`. */
export const UsageResponse = z.object({ usage: z.array(UsageRow) });

/** Answer of `POST /v2/config/reload`. */
export const ReloadResponse = z.object({
  /** Sections that were taken over, changed or not. */
  reloaded: z.array(z.string()),
  /** Settings that were changed in the file and count from the next start. */
  restart_needed: z.array(z.string()),
});
/** See {@linkcode ReloadResponse}. */
export type ReloadResponse = z.infer<typeof ReloadResponse>;

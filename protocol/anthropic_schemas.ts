/** What Anthropic's clients send. Unknown fields are ignored. */
import * as z from "zod";
import { MAX_CONTENT_PARTS } from "./limits.ts";
import { JsonObject, Stops } from "./openai_schemas.ts";

const TextBlock = z.object({ type: z.literal("text"), text: z.string() });

/** One part of a message. */
export const MessageBlock = z.discriminatedUnion("type", [
  TextBlock,
  z.object({ type: z.literal("thinking"), thinking: z.string() }),
  z.object({ type: z.literal("redacted_thinking") }),
  z.object({
    type: z.literal("tool_use"),
    id: z.string(),
    name: z.string().min(1),
    input: JsonObject.default({}),
  }),
  z.object({
    type: z.literal("tool_result"),
    tool_use_id: z.string(),
    content: z.union([z.string(), z.array(TextBlock).max(MAX_CONTENT_PARTS)]).nullish(),
    is_error: z.boolean().nullish(),
  }),
]);
/** See {@linkcode MessageBlock}. */
export type MessageBlock = z.infer<typeof MessageBlock>;

/** `POST /v1/messages/count_tokens`. */
export const CountTokensRequest = z.object({
  model: z.string().nullish(),
  system: z.union([z.string(), z.array(TextBlock).max(MAX_CONTENT_PARTS)]).nullish(),
  messages: z.array(
    z.object({
      role: z.enum(["user", "assistant", "system"]),
      content: z.union([z.string(), z.array(MessageBlock).max(MAX_CONTENT_PARTS)]),
    }),
  ).min(1).max(4096),
  tools: z.array(
    z.object({
      name: z.string().min(1).max(256),
      description: z.string().nullish(),
      input_schema: JsonObject.nullish(),
    }),
  ).max(256).nullish(),
  tool_choice: z.discriminatedUnion("type", [
    z.object({ type: z.literal("auto"), disable_parallel_tool_use: z.boolean().nullish() }),
    z.object({ type: z.literal("any"), disable_parallel_tool_use: z.boolean().nullish() }),
    z.object({ type: z.literal("tool"), name: z.string(), disable_parallel_tool_use: z.boolean().nullish() }),
    z.object({ type: z.literal("none") }),
  ]).nullish(),
  thinking: z.object({ type: z.enum(["enabled", "disabled", "adaptive"]) }).nullish(),
});
/** See {@linkcode CountTokensRequest}. */
export type CountTokensRequest = z.infer<typeof CountTokensRequest>;

/** `POST /v1/messages`. */
export const MessagesRequest = CountTokensRequest.extend({
  max_tokens: z.int().min(1),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().max(1_000_000).nullish(),
  stop_sequences: Stops.nullish(),
  stream: z.boolean().nullish(),
});
/** See {@linkcode MessagesRequest}. */
export type MessagesRequest = z.infer<typeof MessagesRequest>;

/** What clients of OpenAI's Responses interface send; nothing is kept between two requests. */
import * as z from "zod";
import { MAX_CONTENT_PARTS } from "./limits.ts";
import { Arguments, ContentPart, JsonObject, OpenAiSampling } from "./openai_schemas.ts";

const Texts = z.union([z.string(), z.array(ContentPart).max(MAX_CONTENT_PARTS)]);

/** One item of an input. Told apart by their type: trying each for thousands of wrong items takes long. */
export const InputItem = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("function_call"),
    call_id: z.string(),
    name: z.string().min(1),
    arguments: Arguments,
  }),
  z.object({ type: z.literal("function_call_output"), call_id: z.string(), output: Texts }),
  z.object({
    type: z.literal("reasoning"),
    content: z.array(z.object({ type: z.literal("reasoning_text"), text: z.string() })).max(MAX_CONTENT_PARTS)
      .nullish(),
  }),
  z.object({
    type: z.literal("message").optional(),
    role: z.enum(["user", "assistant", "system", "developer"]),
    content: Texts,
  }),
]);
/** See {@linkcode InputItem}. */
export type InputItem = z.infer<typeof InputItem>;

/** `POST /v1/responses`. */
export const ResponsesRequest = OpenAiSampling.pick({
  temperature: true,
  top_p: true,
  top_k: true,
  min_p: true,
  seed: true,
  stream: true,
}).extend({
  model: z.string().nullish(),
  input: z.union([z.string(), z.array(InputItem).min(1).max(4096)]),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().nullish(),
  tools: z.array(
    z.object({
      type: z.literal("function"),
      name: z.string().min(1).max(256),
      description: z.string().nullish(),
      parameters: JsonObject.nullish(),
      strict: z.boolean().nullish(),
    }),
  ).max(256).nullish(),
  tool_choice: z.union([
    z.enum(["auto", "none", "required"]),
    z.object({ type: z.literal("function"), name: z.string() }),
  ]).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z.object({
    format: z.discriminatedUnion("type", [
      z.object({ type: z.literal("text") }),
      z.object({ type: z.literal("json_object") }),
      z.object({
        type: z.literal("json_schema"),
        name: z.string().nullish(),
        schema: JsonObject,
        strict: z.boolean().nullish(),
      }),
    ]).nullish(),
  }).nullish(),
  reasoning: z.object({ effort: z.string().nullish() }).nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  previous_response_id: z.null({
    error: "is not supported: responses are not kept. Send the whole conversation.",
  })
    .optional(),
});
/** See {@linkcode ResponsesRequest}. */
export type ResponsesRequest = z.infer<typeof ResponsesRequest>;

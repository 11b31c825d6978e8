/** From a chat request as OpenAI's clients write it to what the model's template renders. */
import { RbeeError } from "../../protocol/errors.ts";
import type {
  ChatCompletionMessage,
  ChatCompletionRequest,
  ToolChoice,
} from "../../protocol/openai_schemas.ts";
import type { NativeChatRequest } from "../native/addon.ts";

/** What of a request decides how it is rendered; the other interfaces' requests are brought to this shape. */
export type Conversation = Pick<
  ChatCompletionRequest,
  | "messages"
  | "tools"
  | "tool_choice"
  | "parallel_tool_calls"
  | "response_format"
  | "json_schema"
  | "grammar"
  | "reasoning_effort"
  | "reasoning_format"
  | "chat_template_kwargs"
  | "add_generation_prompt"
  | "continue_final_message"
>;

/**
 * What is to be rendered.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for what contradicts itself.
 */
export function chatRequestOf(request: Conversation): NativeChatRequest {
  const tools = chosenTools(request);
  const schema = schemaOf(request);
  if (tools.length > 0 && request.grammar) {
    throw invalid("grammar", "Tools bring a grammar of their own: give either grammar or tools.");
  }
  return {
    any_template: true,
    messages: request.messages.map(withoutNulls),
    ...tools.length > 0 ? { tools, tool_choice: toolChoiceOf(request.tool_choice) } : {},
    ...typeof request.parallel_tool_calls !== "boolean"
      ? {}
      : { parallel_tool_calls: request.parallel_tool_calls },
    ...schema === undefined ? {} : { json_schema: schema },
    ...request.grammar ? { grammar: request.grammar } : {},
    reasoning_format: request.reasoning_format ?? "auto",
    ...thinkingOf(request),
    ...beginningOf(request),
  };
}

/** The schema that an answer has to satisfy. */
export function schemaOf(request: Conversation): Record<string, unknown> | undefined {
  const { response_format: format, json_schema } = request;
  const anyObject = { type: "object" };
  if (format?.type === "json_object") return orElse(format.schema ?? json_schema, anyObject);
  if (format?.type === "json_schema") return orElse(format.json_schema.schema, anyObject);
  return json_schema ? orElse(json_schema, anyObject) : undefined;
}

function orElse(
  schema: Record<string, unknown> | null | undefined,
  other: Record<string, unknown>,
): Record<string, unknown> {
  return schema === undefined || schema === null || Object.keys(schema).length === 0 ? other : schema;
}

function withoutNulls(message: ChatCompletionMessage): Record<string, unknown> {
  const { content, tool_calls, ...rest } = message;
  return Object.fromEntries(
    Object.entries({
      ...rest,
      // A template that reads it finds it, be it empty.
      content: typeof content === "string"
        ? content
        : content?.map(({ text }) => ({ type: "text", text })) ?? "",
      tool_calls: tool_calls?.length ? tool_calls : undefined,
    }).filter(([, value]) => value !== undefined && value !== null),
  );
}

/** Of a choice that names one, only that. */
function chosenTools({ tools, tool_choice }: Conversation): unknown[] {
  if (!tools) return [];
  if (typeof tool_choice !== "object" || tool_choice === null) return tools.map(plainTool);
  const { name } = tool_choice.function;
  const chosen = tools.filter((tool) => tool.function.name === name);
  if (chosen.length === 0) {
    throw invalid("tool_choice", `tool_choice names ${name}, which is none of the tools.`);
  }
  return chosen.map(plainTool);
}

function plainTool(tool: NonNullable<Conversation["tools"]>[number]): unknown {
  const { name, description, parameters } = tool.function;
  return {
    type: "function",
    function: {
      name,
      ...description === undefined || description === null ? {} : { description },
      ...parameters ? { parameters } : {},
    },
  };
}

function toolChoiceOf(choice: ToolChoice | null | undefined): NativeChatRequest["tool_choice"] {
  return typeof choice === "object" && choice !== null ? "required" : choice ?? "auto";
}

function thinkingOf(
  request: Conversation,
): Pick<NativeChatRequest, "enable_thinking" | "template_arguments"> {
  const given = { ...request.chat_template_kwargs };
  const { reasoning_effort: effort } = request;
  if (effort && effort !== "none") given.reasoning_effort = effort;
  const { enable_thinking: thinking } = given;
  if (thinking !== undefined && typeof thinking !== "boolean") {
    throw invalid("chat_template_kwargs.enable_thinking", "enable_thinking must be true or false.");
  }
  return {
    enable_thinking: thinking ?? effort !== "none",
    ...Object.keys(given).length > 0 ? { template_arguments: given } : {},
  };
}

/** An answer goes on with what the assistant has said last, or begins anew. */
function beginningOf(
  request: Conversation,
): Pick<NativeChatRequest, "add_generation_prompt" | "continue_final_message"> {
  const { messages, add_generation_prompt: begin, continue_final_message: goOn } = request;
  if (begin === true && goOn === true) {
    throw invalid("continue_final_message", "Give either add_generation_prompt or continue_final_message.");
  }
  const last = messages[messages.length - 1];
  const continues = goOn ?? (last.role === "assistant" && !last.tool_calls?.length);
  if (!continues) return { add_generation_prompt: begin ?? true };
  if (last.role === "assistant" && messages[messages.length - 2]?.role === "assistant") {
    throw invalid("messages", "The last two messages are both the assistant's; only one can be continued.");
  }
  if (last.tool_calls?.length) {
    throw invalid("messages", "A message with tool_calls cannot be continued.");
  }
  return { add_generation_prompt: false, continue_final_message: true };
}

function invalid(field: string, message: string): RbeeError {
  return new RbeeError("INVALID_REQUEST", message, {
    details: { errors: [{ field, constraint: "conflict", message }] },
  });
}

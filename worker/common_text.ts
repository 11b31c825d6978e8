/** The part of a request that everybody may know, as far as whoever relays it has said so. */
import { createHash } from "node:crypto";
import type { CommonText } from "../protocol/relay_schemas.ts";
import type { NativeChatRequest } from "./native/addon.ts";

/** What is common to prompts: a text, or a conversation that is still to be rendered. */
export type CommonBeginning = { prompt: string } | { chat: NativeChatRequest };

/**
 * What of a prompt is common. It is made of nothing but the declared text, whose hash is compared, so that whatever a
 * prompt shares with it tells nothing of anybody. Undefined when the request does not begin with that text after all.
 */
export function commonBeginningOf(
  work: { prompt?: string; messages?: readonly unknown[]; chat?: NativeChatRequest },
  { chars, sha256 }: CommonText,
): CommonBeginning | undefined {
  const isDeclared = (text: string) =>
    text.length === chars && createHash("sha256").update(text).digest("hex") === sha256;
  if (work.prompt !== undefined) {
    const prompt = work.prompt.slice(0, chars);
    return isDeclared(prompt) ? { prompt } : undefined;
  }
  const [first] = (work.chat?.messages ?? work.messages ?? []) as { role?: unknown; content?: unknown }[];
  const content = textOf(first?.content)?.slice(0, chars);
  if (content === undefined || !isDeclared(content)) return undefined;
  const { role } = first;
  const rest = role === "system" ? [{ role: "user", content: "" }] : [];
  // Nothing else of the request: its variables and tools may stand before the text.
  return { chat: { any_template: work.chat?.any_template, messages: [{ role, content }, ...rest] } };
}

function textOf(content: unknown): string | undefined {
  const text = Array.isArray(content) ? content[0]?.text : content;
  return typeof text === "string" ? text : undefined;
}

/** Chat templates that llama.cpp ships, which `deno task build` has brought along. */
import { join } from "@std/path";
import { ROOT } from "./daemons.ts";

/** Where they are. */
export const CHAT_TEMPLATES: string = join(ROOT, "worker/native/llama.cpp/models/templates");

/** The file of one. */
export function chatTemplate(name: string): string {
  return join(CHAT_TEMPLATES, `${name}.jinja`);
}

/** What can be said to the chat itself, as data. */
import { nearest } from "../../home/near_miss.ts";

/** A command within a chat. */
export interface SlashCommand {
  /** Without the slash. */
  readonly name: string;
  /** What comes after it. */
  readonly args: string;
  readonly help: string;
}

/** All of them, in the order of `/help`. */
export const SLASH_COMMANDS = [
  { name: "help", args: "", help: "show this" },
  { name: "model", args: "[REF]", help: "show the model, or go on with another" },
  { name: "node", args: "[NAME]", help: "show the machine, or go on with another" },
  {
    name: "system",
    args: "[TEXT|-]",
    help: "show what the model is told beforehand, change it, or (-) tell nothing",
  },
  {
    name: "set",
    args: "[NAME [VALUE]]",
    help: "show the settings, change one, or put it back to its default",
  },
  { name: "file", args: "FILE", help: "put a file's text before the next message" },
  { name: "retry", args: "", help: "ask the last question again" },
  { name: "clear", args: "", help: "forget what was said" },
  { name: "save", args: "FILE", help: "write the conversation to a file" },
  { name: "load", args: "FILE", help: "go on with a conversation from a file" },
  { name: "stats", args: "", help: "say after each answer how fast it was, or stop saying it" },
  { name: "exit", args: "", help: "leave, as Ctrl+D does" },
] as const satisfies readonly SlashCommand[];

/** One of their names. */
export type SlashName = typeof SLASH_COMMANDS[number]["name"];

/** What a message asks of the chat; undefined for one that is meant for the model. */
export function parseSlash(
  message: string,
): { name: SlashName; rest: string } | { problem: string } | undefined {
  const match = /^\/([A-Za-z]*)(?:\s+([\s\S]*))?$/.exec(message.trim());
  // A path or a fraction is no command.
  if (match === null) return undefined;
  const [, word, rest = ""] = match;
  const known = SLASH_COMMANDS.find(({ name }) => name === word.toLowerCase());
  if (known === undefined) {
    const near = nearest(word, SLASH_COMMANDS.map(({ name }) => name));
    return {
      problem: `Unknown command "/${word}". ${
        near === undefined ? "/help lists them." : `Did you mean "/${near}"?`
      }`,
    };
  }
  if (known.args === "" && rest !== "") return { problem: `/${known.name} takes nothing after it.` };
  if (known.args === "FILE" && rest === "") return { problem: `/${known.name} needs the name of a file.` };
  return { name: known.name, rest: rest.trim() };
}

/** What a line that was begun may become. */
export function completeSlash(line: string, settings: readonly string[]): string[] {
  const commands = SLASH_COMMANDS.map(({ name, args }) => `/${name}${args === "" ? "" : " "}`);
  const all = [...commands, ...settings.map((name) => `/set ${name} `)];
  return line.startsWith("/") ? all.filter((each) => each.startsWith(line)) : [];
}

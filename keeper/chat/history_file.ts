/** What was typed in earlier chats, for the arrow keys: one line each, the latest last, readable by its owner alone. */
import { join } from "@std/path";
import { printable } from "../../protocol/printable.ts";
import { ensureHome, PRIVATE_FILE_MODE } from "../../home/paths.ts";
import { MAX_HISTORY_CHARS, MAX_HISTORY_LINES } from "../limits.ts";

/** The lines there are, the latest first. Never fails: chats work without it. */
export async function readHistory(home: string): Promise<string[]> {
  try {
    const text = await Deno.readTextFile(historyPath(home));
    return text.split("\n").filter((line) => line !== "").slice(-MAX_HISTORY_LINES).map(printable)
      .toReversed();
  } catch {
    return [];
  }
}

/** Adds a line; several chats may do so at once. Never fails. */
export async function addToHistory(home: string, line: string): Promise<void> {
  const one = line.replaceAll(/\s+/g, " ").trim();
  if (one === "" || one.length > MAX_HISTORY_CHARS) return;
  try {
    await ensureHome(home);
    const options = { append: true, create: true, mode: PRIVATE_FILE_MODE };
    await Deno.writeTextFile(historyPath(home), `${one}\n`, options);
  } catch {
    // It is a convenience.
  }
}

/** Leaves the latest lines only. Never fails. */
export async function trimHistory(home: string): Promise<void> {
  try {
    const path = historyPath(home);
    const lines = (await Deno.readTextFile(path)).split("\n").filter((line) => line !== "");
    if (lines.length <= 2 * MAX_HISTORY_LINES) return;
    const aside = `${path}.${crypto.randomUUID()}`;
    await Deno.writeTextFile(aside, `${lines.slice(-MAX_HISTORY_LINES).join("\n")}\n`, {
      createNew: true,
      mode: PRIVATE_FILE_MODE,
    });
    await Deno.rename(aside, path);
  } catch {
    // As above.
  }
}

function historyPath(home: string): string {
  return join(home, "chat_history");
}

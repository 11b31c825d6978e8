/** What arrived of an answer that broke off is kept in a file (EC4). */
import { join } from "@std/path";
import { PRIVATE_FILE_MODE } from "../home/paths.ts";

/** Writes `$TMPDIR/rbee-partial-<request_id>.txt`, for the owner's eyes only, and resolves to its path. */
export async function savePartialAnswer(requestId: string, text: string): Promise<string> {
  const path = join(Deno.env.get("TMPDIR") || "/tmp", `rbee-partial-${requestId}.txt`);
  // createNew: the folder is everybody's, and nobody's link is followed there.
  await Deno.writeTextFile(path, text, { createNew: true, mode: PRIVATE_FILE_MODE });
  return path;
}

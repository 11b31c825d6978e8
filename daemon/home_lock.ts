/** One daemon of a kind for one home. */
import { join } from "@std/path";
import { readHiveFile } from "../home/hive_file.ts";
import { PRIVATE_FILE_MODE } from "../home/paths.ts";
import { RbeeError } from "../protocol/errors.ts";

/**
 * Takes the home for this process alone, as its hive or its queen, until it is disposed of or the process is over.
 *
 * @throws {RbeeError} `INVALID_REQUEST` naming who has it.
 */
export async function lockHome(home: string, part: "hive" | "queen"): Promise<Disposable> {
  const file = await Deno.open(join(home, `${part}.lock`), {
    create: true,
    write: true,
    mode: PRIVATE_FILE_MODE,
  });
  if (await file.tryLock(true)) return file;
  file.close();
  const other = part === "hive" ? await readHiveFile(home) : undefined;
  const who = other === undefined ? `Another ${part}` : `A hive (pid ${other.pid}, ${other.url})`;
  throw new RbeeError(
    "INVALID_REQUEST",
    `${who} is running on ${home} already. Stop it, or set RBEE_HOME to another home.`,
  );
}

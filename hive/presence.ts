/** What shows on disk that a hive runs: the lock that keeps a second one off, and `hive.json` for this machine. */
import { join } from "@std/path";
import { z } from "zod";
import { PRIVATE_FILE_MODE } from "../home/paths.ts";
import { RbeeError } from "../protocol/errors.ts";

/** The content of `hive.json`. */
const HiveFile = z.object({
  pid: z.int(),
  /** Where programs of this machine reach it. */
  url: z.string(),
  version: z.string(),
  started_unix: z.int(),
});
/** See {@linkcode writeHiveFile}. */
export type HiveFile = z.infer<typeof HiveFile>;

/**
 * Takes the home for this process alone, until it is disposed of or the process is over.
 *
 * @throws {RbeeError} `INVALID_REQUEST` naming the hive that has it.
 */
export async function lockHome(home: string): Promise<Disposable> {
  const file = await Deno.open(join(home, "hive.lock"), {
    create: true,
    write: true,
    mode: PRIVATE_FILE_MODE,
  });
  if (await file.tryLock(true)) return file;
  file.close();
  const other = await readHiveFile(home);
  const who = other === undefined ? "Another hive" : `A hive (pid ${other.pid}, ${other.url})`;
  throw new RbeeError(
    "INVALID_REQUEST",
    `${who} is running on ${home} already. Stop it, or set RBEE_HOME to another home.`,
  );
}

/** Tells this machine's programs where the hive is; whoever sees the file sees all of it. */
export async function writeHiveFile(home: string, content: HiveFile): Promise<void> {
  const aside = join(home, `hive.json.${crypto.randomUUID()}`);
  await Deno.writeTextFile(aside, JSON.stringify(content) + "\n", {
    createNew: true,
    mode: PRIVATE_FILE_MODE,
  });
  await Deno.rename(aside, hiveFilePath(home));
}

/** The last hive's file; it may have outlived a hive that was killed. Undefined when there is none. */
export async function readHiveFile(home: string): Promise<HiveFile | undefined> {
  try {
    return HiveFile.parse(JSON.parse(await Deno.readTextFile(hiveFilePath(home))));
  } catch (error) {
    const useless = error instanceof Deno.errors.NotFound || error instanceof SyntaxError ||
      error instanceof z.ZodError;
    if (useless) return undefined;
    throw error;
  }
}

/** Takes the file away; without effect when there is none. */
export async function removeHiveFile(home: string): Promise<void> {
  try {
    await Deno.remove(hiveFilePath(home));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function hiveFilePath(home: string): string {
  return join(home, "hive.json");
}

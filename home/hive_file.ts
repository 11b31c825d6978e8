/** `HOME/hive.json`: where this machine's hive says that it runs, and where. */
import { join } from "@std/path";
import * as z from "zod";
import { PRIVATE_FILE_MODE } from "./paths.ts";

const HiveFile = z.object({
  pid: z.int(),
  /** Where programs of this machine reach it. */
  url: z.url({ protocol: /^https?$/ }),
  version: z.string(),
  started_unix: z.int(),
  /** Of its process, see `processIdentity`: the pid may be another program's by now. Older hives do not say. */
  identity: z.string().optional(),
});
/** What a running hive writes; the file may outlive a hive that was killed. */
export type HiveFile = z.infer<typeof HiveFile>;

/** Tells this machine's programs where the hive is; whoever sees the file sees all of it. */
export async function writeHiveFile(home: string, content: HiveFile): Promise<void> {
  const aside = join(home, `hive.json.${crypto.randomUUID()}`);
  await Deno.writeTextFile(aside, JSON.stringify(content) + "\n", {
    createNew: true,
    mode: PRIVATE_FILE_MODE,
  });
  await Deno.rename(aside, hiveFilePath(home));
}

/** The file's content; undefined when there is none or it is no such file. Says nothing about who still runs. */
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

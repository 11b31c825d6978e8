/** `HOME/hive.json`: where this machine's hive says that it runs, and where. */
import { join } from "@std/path";
import { z } from "zod";

/** What a running hive writes; the file may outlive it. */
const HiveFile = z.object({
  pid: z.int(),
  url: z.url({ protocol: /^https?$/ }),
  version: z.string(),
  started_unix: z.int(),
});
/** See {@linkcode readHiveFile}. */
export type HiveFile = z.infer<typeof HiveFile>;

/** The file's content; undefined when there is none or it is no such file. Says nothing about who still runs. */
export async function readHiveFile(home: string): Promise<HiveFile | undefined> {
  try {
    return HiveFile.parse(JSON.parse(await Deno.readTextFile(join(home, "hive.json"))));
  } catch (error) {
    const harmless = error instanceof Deno.errors.NotFound || error instanceof SyntaxError ||
      error instanceof z.ZodError;
    if (!harmless) throw error;
  }
}

/** The hive's program, as it lies beside this one. */
import { dirname, fromFileUrl, join } from "@std/path";

/** Its command line with these arguments. */
export function hiveCommand(...args: string[]): [string, ...string[]] {
  const root = dirname(dirname(fromFileUrl(import.meta.url)));
  const config = join(root, "deno.json");
  const main = join(root, "hive", "main.ts");
  return [Deno.execPath(), "run", "-q", "--no-prompt", "-P=hive", "--config", config, main, ...args];
}

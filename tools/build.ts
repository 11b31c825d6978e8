/**
 * `deno task build`. With `--if-needed` it is the first thing every start of a part runs, so what is up to date is
 * found out before anything else is loaded.
 */
import { buildPaths, isUpToDate, lastChoice } from "./build_stamp.ts";

if (import.meta.main) {
  const paths = buildPaths(new URL("..", import.meta.url).pathname.slice(0, -1));
  const isQuickCheck = Deno.args.length === 1 && Deno.args[0] === "--if-needed";
  if (!isQuickCheck || !await isUpToDate(paths, lastChoice(paths))) {
    const { buildCommand } = await import("./build_command.ts");
    Deno.exit(await buildCommand(paths, Deno.args));
  }
}

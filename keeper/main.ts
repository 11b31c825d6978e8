/** `rbee-keeper`, the command line. Wiring only; what a command needs is loaded when it is asked for. */
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { parseCommandLine, UsageError } from "./cli.ts";
import { COMMANDS, PROGRAM } from "./command_table.ts";
import { watchInterrupts } from "./interrupt.ts";
import { Output } from "./output.ts";

/** Runs one command line. Never throws; resolves to the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  let output = new Output();
  try {
    const asked = parseCommandLine(args, COMMANDS);
    if (asked.kind === "version") {
      const { VERSION } = await import("../protocol/version.ts");
      await output.line(`${PROGRAM} ${VERSION}`);
      return 0;
    }
    if (asked.kind === "help") {
      const { renderHelp } = await import("./help.ts");
      await output.text(`${renderHelp(asked.path, COMMANDS)}\n`);
      return 0;
    }
    const { command, flags } = asked;
    output = new Output({ json: flags.json === true, quiet: flags.quiet === true });
    // A schema reads one or two answers in the life of a command: compiling it costs more than it saves. It has to be
    // settled before the first schema is made.
    const { config } = await import("zod");
    config({ jitless: true });
    const { check, run, ownInterrupts } = await command.load();
    // The parser made the flags from the table that the command's type comes from.
    const problems = [...asked.problems, ...await check?.(flags as never) ?? []];
    if (problems.length > 0) throw new UsageError(problems, command.path);
    using interrupts = ownInterrupts ? undefined : watchInterrupts(() => output.restore());
    const signal = interrupts?.signal ?? new AbortController().signal;
    return await run({ output, signal }, flags as never);
  } catch (error) {
    const { reportFailure } = await import("./failure.ts");
    return await reportFailure(error, output);
  }
}

if (import.meta.main) {
  keepLoopbackOffProxies();
  Deno.exit(await main(Deno.args));
}

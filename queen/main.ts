/** `queen-rbee`: all machines of a cluster as one, over HTTP. */
import { loadConfig } from "../home/config.ts";
import { runProgram, writeProblem, writeResult } from "../daemon/program.ts";
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { VERSION } from "../protocol/version.ts";
import { parseQueenArgs } from "./commands.ts";

async function main(args: readonly string[]): Promise<number> {
  const asked = parseQueenArgs(args);
  switch (asked.kind) {
    case "help":
      writeResult(asked.text);
      return 0;
    case "version":
      writeResult(VERSION);
      return 0;
    case "usage":
      writeProblem(
        [...asked.problems.map((problem) => `Error: ${problem}`), "Try: queen-rbee --help"].join("\n"),
      );
      return 2;
    case "daemon": {
      const { runDaemon } = await import("./daemon.ts");
      return await runDaemon(() => loadConfig({ flags: asked.configFlags }), { stopHives: asked.stopHives });
    }
  }
}

if (import.meta.main) {
  keepLoopbackOffProxies();
  await runProgram(() => main(Deno.args));
}

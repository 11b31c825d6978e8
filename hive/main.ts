/** `rbee-hive`: models and workers of one machine, over HTTP. */
import { runProgram, writeProblem, writeResult } from "../daemon/program.ts";
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { loadConfig } from "../home/config.ts";
import { VERSION } from "../protocol/version.ts";
import { parseHiveArgs } from "./commands.ts";

async function main(args: readonly string[]): Promise<number> {
  const asked = parseHiveArgs(args);
  switch (asked.kind) {
    case "help":
      writeResult(asked.text);
      return 0;
    case "version":
      writeResult(VERSION);
      return 0;
    case "usage":
      writeProblem(
        [...asked.problems.map((problem) => `Error: ${problem}`), "Try: rbee-hive --help"].join("\n"),
      );
      return 2;
    case "daemon": {
      const { runDaemon } = await import("./daemon.ts");
      return await runDaemon(await loadConfig({ flags: asked.configFlags }), asked);
    }
    case "detect": {
      const { detectReport } = await import("./report.ts");
      writeResult(await detectReport(await loadConfig(), asked));
      return 0;
    }
    case "status": {
      const { hiveStatus, statusReport } = await import("./report.ts");
      const status = await hiveStatus(await loadConfig());
      writeResult(statusReport(status, asked));
      return status.running ? 0 : 1;
    }
  }
}

if (import.meta.main) {
  keepLoopbackOffProxies();
  await runProgram(() => main(Deno.args));
}

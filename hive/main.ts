/** `rbee-hive`: models and workers of one machine, over HTTP. */
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { loadConfig } from "../home/config.ts";
import { RbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import { parseHiveArgs } from "./commands.ts";

async function main(args: readonly string[]): Promise<number> {
  const asked = parseHiveArgs(args);
  switch (asked.kind) {
    case "help":
      console.log(asked.text);
      return 0;
    case "version":
      console.log(VERSION);
      return 0;
    case "usage":
      for (const problem of asked.problems) console.error(`Error: ${problem}`);
      console.error("Try: rbee-hive --help");
      return 2;
    case "daemon": {
      const { runDaemon } = await import("./daemon.ts");
      return await runDaemon(await loadConfig({ flags: asked.configFlags }), asked);
    }
    case "detect": {
      const { detectReport } = await import("./report.ts");
      console.log(await detectReport(await loadConfig(), asked));
      return 0;
    }
    case "status": {
      const { hiveStatus, statusReport } = await import("./report.ts");
      const status = await hiveStatus(await loadConfig());
      console.log(statusReport(status, asked));
      return status.running ? 0 : 1;
    }
  }
}

if (import.meta.main) {
  keepLoopbackOffProxies();
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    console.error(`Error: ${error.message}`);
    Deno.exit(1);
  }
}

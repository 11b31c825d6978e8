/** `queen-rbee`: all machines of a cluster as one, over HTTP. */
import { loadConfig } from "../home/config.ts";
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { RbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import { parseQueenArgs } from "./commands.ts";

async function main(args: readonly string[]): Promise<number> {
  const asked = parseQueenArgs(args);
  switch (asked.kind) {
    case "help":
      console.log(asked.text);
      return 0;
    case "version":
      console.log(VERSION);
      return 0;
    case "usage":
      for (const problem of asked.problems) console.error(`Error: ${problem}`);
      console.error("Try: queen-rbee --help");
      return 2;
    case "daemon": {
      const { runDaemon } = await import("./daemon.ts");
      return await runDaemon(await loadConfig({ flags: asked.configFlags }));
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

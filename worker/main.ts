/** `llm-worker-rbee`: one model in memory, over HTTP. */
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { RbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import { parseWorkerArgs } from "./options.ts";
import { detect, runWorker } from "./run.ts";

async function main(): Promise<number> {
  const invocation = parseWorkerArgs(Deno.args, Deno.env);
  switch (invocation.kind) {
    case "help":
      console.log(invocation.text);
      return 0;
    case "version":
      console.log(VERSION);
      return 0;
    case "detect":
      console.log(JSON.stringify(detect()));
      return 0;
    case "usage":
      for (const problem of invocation.problems) console.error(`Error: ${problem}`);
      console.error("Try: llm-worker-rbee --help");
      return 2;
    case "run":
      return await runWorker(invocation.options);
  }
}

if (import.meta.main) {
  keepLoopbackOffProxies();
  try {
    Deno.exit(await main());
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    console.error(`Error: ${error.message}`);
    Deno.exit(1);
  }
}

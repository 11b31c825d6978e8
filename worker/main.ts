/** `llm-worker-rbee`: one model in memory, over HTTP. */
import { runProgram, writeProblem, writeResult } from "../daemon/program.ts";
import { keepLoopbackOffProxies } from "../home/proxy.ts";
import { VERSION } from "../protocol/version.ts";
import { parseWorkerArgs } from "./options.ts";
import { detect, runWorker } from "./run.ts";

async function main(): Promise<number> {
  const invocation = parseWorkerArgs(Deno.args, Deno.env);
  switch (invocation.kind) {
    case "help":
      writeResult(invocation.text);
      return 0;
    case "version":
      writeResult(VERSION);
      return 0;
    case "detect":
      writeResult(JSON.stringify(detect()));
      return 0;
    case "usage":
      writeProblem(
        [...invocation.problems.map((problem) => `Error: ${problem}`), "Try: llm-worker-rbee --help"].join(
          "\n",
        ),
      );
      return 2;
    case "run":
      return await runWorker(invocation.options);
  }
}

if (import.meta.main) {
  keepLoopbackOffProxies();
  await runProgram(main);
}

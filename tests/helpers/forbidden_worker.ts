/**
 * The real worker under all of Deno's permissions, so that only the kernel is left to refuse anything. For each line on
 * its input, the JSON of {@linkcode ForbiddenTargets}, it tries what a worker must not be able to do, by native code on
 * every thread and by Deno's own functions, and prints what came of it as one line of JSON.
 */
import { createRequire } from "node:module";
import { join } from "@std/path";
import { INSTALLATION } from "../../home/installation.ts";
import { parseWorkerArgs } from "../../worker/options.ts";
import { runWorker } from "../../worker/run.ts";

/** What is tried. */
export interface ForbiddenTargets {
  program: string;
  newFile: string;
  file: string;
  port: number;
  process: number;
}

/** What came of it. */
export interface ForbiddenReport {
  /** Of each thread: its name, and by attempt an errno, 0 where the kernel let it happen. */
  threads: { name: string; errors: Record<string, number> }[];
  /** By function of Deno's: the error's name, `ok` where there was none. */
  deno: Record<string, string>;
}

async function outcome(attempt: () => Promise<unknown>): Promise<string> {
  try {
    await attempt();
    return "ok";
  } catch (error) {
    return (error as Error).name;
  }
}

async function report(targets: ForbiddenTargets): Promise<ForbiddenReport> {
  const addon = createRequire(import.meta.url)(join(INSTALLATION, "worker/native/build/rbee_engine.node"));
  return {
    threads: addon.tryForbidden(targets),
    deno: {
      run: await outcome(() => new Deno.Command("/bin/true").output()),
      write: await outcome(() => Deno.writeTextFile(targets.newFile, "made")),
      read: await outcome(() => Deno.readTextFile(targets.file)),
      connect: await outcome(() => Deno.connect({ hostname: "127.0.0.1", port: targets.port })),
      listen: await outcome(() => Promise.resolve().then(() => Deno.listen({ port: 0 }))),
    },
  };
}

async function answerTargets(): Promise<void> {
  const text = new TextDecoder();
  for await (const chunk of Deno.stdin.readable) {
    console.log(JSON.stringify(await report(JSON.parse(text.decode(chunk)))));
  }
}

if (import.meta.main) {
  const invocation = parseWorkerArgs(Deno.args, Deno.env);
  if (invocation.kind !== "run") throw new Error(JSON.stringify(invocation));
  answerTargets();
  Deno.exit(await runWorker(invocation.options));
}

/**
 * What the daemons' programs write besides their log: results on stdout, what is wrong on stderr. Escaped here, because
 * devices, configurations and other machines have a say in it. Daemons write nothing past this file and the log.
 */
import { RbeeError } from "../protocol/errors.ts";
import { printable } from "../protocol/printable.ts";

/** Runs a program to its end and leaves with its exit code; 1 when it failed, and why on stderr. */
export async function runProgram(main: () => Promise<number>): Promise<never> {
  const end = (thrown: unknown) => {
    writeProblem(`Error: ${thrown instanceof RbeeError ? thrown.message : Deno.inspect(thrown)}`);
    Deno.exit(1);
  };
  // What nobody caught would be shown by Deno as it stands.
  globalThis.addEventListener("error", (event) => {
    if (!event.defaultPrevented) end(event.error);
  });
  globalThis.addEventListener("unhandledrejection", (event) => {
    if (!event.defaultPrevented) end(event.reason);
  });
  try {
    Deno.exit(await main());
  } catch (error) {
    return end(error);
  }
}

/** Writes a result; its lines are the program's own. */
export function writeResult(text: string): void {
  console.log(lines(text));
}

/** Writes what is wrong. */
export function writeProblem(text: string): void {
  console.error(lines(text));
}

function lines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** `deno doc --lint`, without the two rules that forbid what schemas are for. */
import { runCommand } from "./command.ts";

/** Types are inferred from zod's schemas, one source for both; these rules want every such type written out. */
const RULES_AGAINST_INFERENCE = ["missing-explicit-type", "private-type-ref"];

/** What `deno doc --lint` has against `files`; `undefined` when nothing. */
export async function lintDocs(root: string, files: string[]): Promise<string | undefined> {
  if (files.length === 0) return undefined;
  const { code, output } = await runCommand([Deno.execPath(), "doc", "--lint", ...files], {
    cwd: root,
    env: { NO_COLOR: "1" },
  });
  return code === 0 ? undefined : docProblems(output);
}

/** The findings in Deno's output that count. Output that holds no finding at all is a failure of its own. */
export function docProblems(output: string): string | undefined {
  const findings = output.split(/^(?=error)/m).filter((part) => /^error\[[\w-]+\]/.test(part));
  if (findings.length === 0) return output;
  const problems = findings.filter((text) =>
    !RULES_AGAINST_INFERENCE.some((rule) => text.startsWith(`error[${rule}]`))
  );
  return problems.length === 0 ? undefined : problems.join("").trimEnd();
}

/** Formats our C++ with clang-format. Where there is none, C++ stays as it is: it is no part of the set-up. */
import { hasProgram, runCommand } from "./command.ts";
import { projectFiles, projectRoot } from "./project_files.ts";

if (import.meta.main) {
  const result = await formatNative(projectRoot(), { write: true });
  if (result) console.error(result);
  if (result) Deno.exit(1);
}

/** What is wrong with the format of our C++ files, `undefined` when nothing is. With `write`, it is put right. */
export async function formatNative(root: string, options: { write: boolean }): Promise<string | undefined> {
  const files = projectFiles(root).filter((path) => /\.(cpp|h)$/.test(path));
  if (files.length === 0 || !hasProgram("clang-format")) return undefined;
  const mode = options.write ? ["-i"] : ["--dry-run", "--Werror"];
  const { code, output } = await runCommand(["clang-format", ...mode, ...files], { cwd: root });
  if (code === 0) return undefined;
  const wrong = files.filter((file) => output.includes(`${file}:`));
  return wrong.length === 0 ? output : `Not formatted: ${wrong.join(", ")}\nPut right by: deno task fmt`;
}

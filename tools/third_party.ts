/** The licences of everything in a bundle that others wrote. */
import { join } from "@std/path";
import { MODULES } from "../home/installation.ts";
import { BuildError } from "./build_error.ts";
import { runCommand } from "./command.ts";
import { LLAMA_RELEASE } from "./llama_release.ts";

/** Folders of llama.cpp whose code is linked into the engine, by the names that people know. */
const INSIDE_LLAMA: [name: string, licence: string][] = [
  [`llama.cpp ${LLAMA_RELEASE.tag} with ggml`, "LICENSE"],
  ["JSON for Modern C++ (in llama.cpp)", "licenses/LICENSE-jsonhpp"],
  ["xxHash (in llama.cpp)", "vendor/hash/xxhash/LICENSE"],
  ["cpp-httplib (in llama.cpp)", "vendor/cpp-httplib/LICENSE"],
];

interface NpmPackage {
  name: string;
  version: string;
  dependencies: string[];
  localPath: string;
}

/** The part of `deno info --json` used here. */
interface Graph {
  modules: { kind: string; npmPackage?: string }[];
  npmPackages: Record<string, NpmPackage>;
}

/** One text: for each of them its name and its licence. */
export async function thirdPartyNotices(root: string): Promise<string> {
  const parts = [
    "This archive contains the work of others, under these licences.",
    section(
      `Deno ${Deno.version.deno} with V8 ${Deno.version.v8}`,
      "MIT, Copyright the Deno authors; V8: BSD, Copyright the V8 project authors. What they are built from is named with\n" +
        "its licences at https://github.com/denoland/deno and https://github.com/v8/v8.",
    ),
    section(
      "GNU libstdc++ and libgcc",
      "GPL 3 with the GCC Runtime Library Exception 3.1, which allows them to be part of this program.",
    ),
    ...INSIDE_LLAMA.map(([name, path]) =>
      section(name, Deno.readTextFileSync(join(root, "worker/native/llama.cpp", path)))
    ),
    ...(await npmPackages(root)).map((one) => section(`${one.name} ${one.version}`, licenceOf(one))),
  ];
  return parts.join("\n");
}

function section(name: string, licence: string): string {
  return `${"=".repeat(80)}\n${name}\n${"=".repeat(80)}\n\n${licence.trim()}\n`;
}

/** What the programs import of npm, and what that imports. */
async function npmPackages(root: string): Promise<NpmPackage[]> {
  const found = new Map<string, NpmPackage>();
  for (const name of MODULES) {
    const { code, stdout, output } = await runCommand(
      [Deno.execPath(), "info", "--json", join(root, `${name}.ts`)],
      { cwd: root },
    );
    if (code !== 0) throw new BuildError(output);
    const { modules, npmPackages: packages } = JSON.parse(stdout) as Graph;
    const add = (id: string) => {
      if (found.has(id)) return;
      found.set(id, packages[id]);
      packages[id].dependencies.forEach(add);
    };
    for (const { npmPackage } of modules) if (npmPackage !== undefined) add(npmPackage);
  }
  return [...found.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

function licenceOf({ name, localPath }: NpmPackage): string {
  const file = [...Deno.readDirSync(localPath)].map((entry) => entry.name).sort()
    .find((file) => /^licen[cs]e/i.test(file));
  if (file !== undefined) return Deno.readTextFileSync(join(localPath, file));
  const { license } = JSON.parse(Deno.readTextFileSync(join(localPath, "package.json")));
  if (typeof license !== "string") throw new BuildError(`The package ${name} names no licence.`);
  return `${license}, as its package.json says.`;
}

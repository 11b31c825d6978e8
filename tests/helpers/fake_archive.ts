/** An archive as small as the installer takes it: programs that say their version, and the real installer. */
import { dirname, join } from "@std/path";
import { PROGRAM_NAMES } from "../../home/installation.ts";
import { ROOT } from "./daemons.ts";

/** Makes one in `folder`; nothing else may be there. */
export async function fakeArchive(folder: string, version: string): Promise<string> {
  const files: Record<string, string> = {
    LICENSE: version,
    "lib/keeper/main.js": version,
    "lib/deno": `#!/bin/sh\nexec "${Deno.execPath()}" "$@"\n`,
    "lib/exchange.js": await Deno.readTextFile(join(ROOT, "packaging/exchange.js")),
    // Waits for as long as a test wants it to, and fails where one says so.
    "lib/self-test": `#!/bin/sh
if test -p "$HOME/wait"; then echo >"$HOME/tested"; read -r _ <"$HOME/wait"; fi
! test -e "$HOME/broken"
`,
    "share/man/man1/rbee-keeper.1": version,
  };
  for (const name of Object.values(PROGRAM_NAMES)) {
    files[name] =
      `#!/bin/sh\n# Starts it of the archive that this file lies in.\ntest "$1" != --version || echo ${version}\n`;
  }
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(folder, path)), { recursive: true });
    await Deno.writeTextFile(join(folder, path), text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
  }
  await Deno.copyFile(join(ROOT, "packaging/install.sh"), join(folder, "install.sh"));
  return folder;
}

/** All that is in a folder, whatever it is: kinds, modes, contents. */
export async function contentOf(folder: string): Promise<string[]> {
  const found: string[] = [];
  const look = async (path: string) => {
    const { isDirectory, isSymlink, isFile, mode } = await Deno.lstat(path);
    const what = isSymlink ? await Deno.readLink(path) : isFile ? await Deno.readTextFile(path) : "";
    found.push(`${path.slice(folder.length)} ${isSymlink ? "" : mode} ${what}`);
    if (!isDirectory) return;
    for await (const { name } of Deno.readDir(path)) await look(join(path, name));
  };
  await look(folder);
  return found.sort();
}

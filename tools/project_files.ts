/** The project's own files, as opposed to what is fetched or made. */

/** Never looked into, at any depth. */
const FOREIGN_FOLDERS = new Set([".git", ".cache", "node_modules", "dist"]);
/** Likewise, by their path from the root. */
const FOREIGN_PATHS = new Set(["worker/native/llama.cpp", "worker/native/build"]);

/** Paths from `root` of all files of the project, sorted. Blocks while it reads the folders. */
export function projectFiles(root: string, folder = ""): string[] {
  const found: string[] = [];
  for (const entry of Deno.readDirSync(`${root}/${folder}`)) {
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    if (entry.isDirectory) {
      if (!FOREIGN_FOLDERS.has(entry.name) && !FOREIGN_PATHS.has(path)) {
        found.push(...projectFiles(root, path));
      }
    } else if (entry.isFile) {
      found.push(path);
    }
  }
  return found.sort();
}

/** The root of this checkout, without a slash at its end. */
export function projectRoot(): string {
  return new URL("..", import.meta.url).pathname.slice(0, -1);
}

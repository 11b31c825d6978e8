/** Disks of a test's own: file systems that only one process sees, mounted in a namespace. */

/** A shell in a mount namespace of its own that runs `script` and then makes way for what follows. */
export function inNamespace(script: string): [string, ...string[]] {
  return ["unshare", "--map-root-user", "--mount", "sh", "-c", `${script} && exec "$@"`, "sh"];
}

/** Whether this machine can do it. */
export const canMount: boolean = await new Deno.Command("unshare", {
  args: inNamespace("mount -t tmpfs none /mnt").slice(1).concat("true"),
  stdout: "null",
  stderr: "null",
}).output().then(({ success }) => success, () => false);

/** What a tmpfs hands out at least. */
const PAGE_BYTES = 4096;

/** Larger than any disk that a test mounts. */
const MOST_BYTES = 256 * 1024 * 1024;

/** Writes until the disk takes no more. Throws when that is a larger one than a test's own. */
export async function fill(path: string): Promise<void> {
  using file = await Deno.create(path);
  let written = 0;
  for (let bytes = 1024 * 1024; bytes >= PAGE_BYTES;) {
    try {
      written += await file.write(new Uint8Array(bytes));
    } catch {
      bytes = Math.floor(bytes / 4);
    }
    if (written > MOST_BYTES) throw new Error(`${path} is not on a disk of this test's own.`);
  }
}

/** What the system knows of a process (Linux). */

/** Bytes that a line of a file in `/proc` gives in kB; the pattern's first group is the number. */
export async function kilobytes(path: string, pattern: RegExp): Promise<number> {
  return Number(pattern.exec(await Deno.readTextFile(path))![1]) * 1024;
}

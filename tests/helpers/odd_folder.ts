/** A folder on a disk that does not answer, or that may not be entered, for one program alone. */
import { join } from "@std/path";

/** How the folder is odd: a mount whose server is gone, or one without the right to enter. */
export type Oddity = "hang" | "denied";

/** The environment in which a program finds `folder` to be like that. Builds what it takes in `buildFolder`. */
export async function oddFolder(
  folder: string,
  how: { is: Oddity; buildFolder: string },
): Promise<Record<string, string>> {
  const library = join(how.buildFolder, "odd_folder.so");
  const source = new URL("odd_folder.c", import.meta.url).pathname;
  const { success, stderr } = await new Deno.Command("cc", {
    args: ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return { LD_PRELOAD: library, ODD_FOLDER: folder, ODD_HOW: how.is };
}

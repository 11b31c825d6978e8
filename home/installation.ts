/**
 * Where the parts of this installation lie. A checkout holds sources, an archive a `lib` folder of the same layout in
 * which every program is one bundled file; a compiled program brings that folder inside itself.
 */
import { dirname, fromFileUrl, join } from "@std/path";
import { VERSION } from "../protocol/version.ts";

/** What is started as a process of its own. */
export type Program = "keeper" | "hive" | "queen" | "worker";

/** The names that people know them by. */
export const PROGRAM_NAMES: Readonly<Record<Program, string>> = {
  keeper: "rbee-keeper",
  hive: "rbee-hive",
  queen: "queen-rbee",
  worker: "llm-worker-rbee",
};

/** The modules that are started on their own, named by their places in a checkout without the ending. */
export const MODULES = [
  "keeper/main",
  "hive/main",
  "hive/models/digest_thread",
  "queen/main",
  "worker/main",
] as const;

/** A kind of machine, in the words of `Deno.build`. */
export interface Platform {
  os: string;
  arch: string;
}

/** An archive's name says for which machines it is: `rbee-0.1.0-linux-x86_64`. */
export function bundleName({ os, arch }: Platform = Deno.build): string {
  return `rbee-${VERSION}-${os}-${arch}`;
}

const OWN_URL = import.meta.url;
/** Whether this is no checkout: what came out of the bundler is JavaScript. */
export const IS_BUNDLED: boolean = OWN_URL.endsWith(".js");
const FOLDER_URL = IS_BUNDLED
  ? OWN_URL.slice(0, OWN_URL.lastIndexOf("/lib/") + "/lib/".length)
  : new URL("../", OWN_URL);
/** The folder that has everything in it. */
export const INSTALLATION: string = fromFileUrl(FOLDER_URL);

/** Where one of {@linkcode MODULES} is. */
export function moduleUrl(name: (typeof MODULES)[number]): URL {
  return new URL(`${name}.${IS_BUNDLED ? "js" : "ts"}`, FOLDER_URL);
}

/** The command line that starts a program of this installation. */
export function programCommand(program: Program, ...args: string[]): [string, ...string[]] {
  if (Deno.build.standalone) return [join(dirname(Deno.execPath()), PROGRAM_NAMES[program]), ...args];
  const config = join(INSTALLATION, "deno.json");
  const main = fromFileUrl(moduleUrl(`${program}/main`));
  return [Deno.execPath(), "run", "-q", "--no-prompt", `-P=${program}`, "--config", config, main, ...args];
}

/**
 * Knows whether the engine has to be built. Every start of a part asks first, so this file costs a few
 * milliseconds and imports nothing heavy.
 */
import { LLAMA_RELEASE } from "./llama_release.ts";

/** What the engine computes on. One build has one of them. */
export type Backend = "cpu" | "cuda" | "metal" | "vulkan";

/** What a build was made for. */
export interface BuildChoice {
  /** See {@linkcode Backend}. */
  backend: Backend;
  /** CMake's list of CUDA architectures, as `90` or `80;90`; absent: those of this machine. */
  cudaArch?: string;
}

/** Paths of everything a build touches, all absolute. */
export interface BuildPaths {
  /** The project's root. */
  root: string;
  /** Everything that is made; ignored by git. */
  build: string;
  /** What the worker loads. */
  addon: string;
  /** Whole output of the last build. */
  log: string;
  /** What the last build was made of. */
  stamp: string;
  /** Held while a build runs. */
  lock: string;
}

/** Folders of `worker/native`: what is made, what LLAMA_RELEASE stands for, and what only the native test holds. */
const NOT_IN_THE_ADDON = new Set(["build", "llama.cpp", "test"]);

interface Stamp extends BuildChoice {
  fingerprint: string;
  addonBytes: number;
}

/** The paths of the checkout at `root`. */
export function buildPaths(root: string): BuildPaths {
  const build = `${root}/worker/native/build`;
  return {
    root,
    build,
    addon: `${build}/rbee_engine.node`,
    log: `${build}/build.log`,
    stamp: `${build}/stamp.json`,
    lock: `${build}/build.lock`,
  };
}

/** The choice of the last build, so that a start never replaces a CUDA engine by a CPU one; else this system's. */
export function lastChoice(paths: BuildPaths): BuildChoice {
  const stamp = readStamp(paths);
  if (stamp) return { backend: stamp.backend, cudaArch: stamp.cudaArch };
  return { backend: Deno.build.os === "darwin" ? "metal" : "cpu" };
}

/** Whether the addon in place was built from what is in the tree now, for `choice`. */
export async function isUpToDate(paths: BuildPaths, choice: BuildChoice): Promise<boolean> {
  const stamp = readStamp(paths);
  if (!stamp || stamp.addonBytes !== fileBytes(paths.addon)) return false;
  return stamp.fingerprint === await fingerprint(paths.root, choice);
}

/** Records that the addon in place was built for `choice` from content with this fingerprint. */
export function writeStamp(paths: BuildPaths, choice: BuildChoice, fingerprint: string): void {
  const stamp: Stamp = { ...choice, fingerprint, addonBytes: fileBytes(paths.addon) ?? 0 };
  replaceFile(paths.stamp, (temp) => Deno.writeTextFileSync(temp, JSON.stringify(stamp)));
}

/** A hash of all that decides what the addon is. Content, not times: a fresh checkout changes only those. */
export async function fingerprint(root: string, choice: BuildChoice): Promise<string> {
  const imports = JSON.parse(Deno.readTextFileSync(`${root}/deno.json`)).imports as Record<string, string>;
  const parts: (string | Uint8Array)[] = [
    Deno.build.target,
    JSON.stringify([choice.backend, choice.cudaArch ?? ""]),
    LLAMA_RELEASE.tree,
    imports["cmake-js"],
    imports["node-addon-api"],
  ];
  const files = [`${root}/CMakeLists.txt`, `${root}/tools/cmake.ts`, ...nativeFiles(`${root}/worker/native`)];
  for (const path of files) parts.push(path.slice(root.length), Deno.readFileSync(path));
  return await sha256(parts);
}

/** Puts a file in place in one step: nobody ever sees half of it, and who has the old one open keeps it. */
export function replaceFile(path: string, write: (temp: string) => void): void {
  const temp = `${path}.${Deno.pid}`;
  try {
    write(temp);
    Deno.renameSync(temp, path);
  } catch (error) {
    try {
      Deno.removeSync(temp);
    } catch {
      // It was never written; the first error is the one that counts.
    }
    throw error;
  }
}

function readStamp(paths: BuildPaths): Stamp | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(paths.stamp)) as Stamp;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function fileBytes(path: string): number | undefined {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Our own C++ that the addon is made of. */
function nativeFiles(folder: string): string[] {
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap(({ name, isDirectory }) => {
    if (isDirectory) return NOT_IN_THE_ADDON.has(name) ? [] : nativeFiles(`${folder}/${name}`);
    return /\.(cpp|h)$/.test(name) ? [`${folder}/${name}`] : [];
  });
}

/** Of the parts and their lengths, so that no byte can move from one part to the next unnoticed. */
async function sha256(parts: (string | Uint8Array)[]): Promise<string> {
  const chunks = parts.flatMap((part) => {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
    return [new TextEncoder().encode(`${bytes.length}:`), bytes];
  });
  const whole = new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole)).toHex();
}

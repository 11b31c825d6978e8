/** Looks at files that may lie where nobody answers: on a mount that is gone, in a folder that may not be entered. */
import { RbeeError } from "../../protocol/errors.ts";
import { FILE_LOOK_TIMEOUT_MS } from "./limits.ts";
import { splitPaths } from "./split_name.ts";

/** A file may be there or not: the file system does not say. */
export class UnreachableFile extends RbeeError {
  /** `why` in the file system's words. */
  constructor(path: string, why: string, cause?: unknown) {
    super(
      "MODEL_UNREACHABLE",
      `${path} can't be looked at: ${why}. Check that its disk is mounted, and who may enter its folder.`,
      { details: { path, why }, cause },
    );
  }
}

/** Questions to the file system that it has not answered yet: each takes a thread until it does. */
const open = new Map<string, { answer: Promise<unknown>; askedMs: number }>();

/**
 * Size of the file behind `path`, links followed; undefined when there is none.
 *
 * @throws {UnreachableFile} when that can't be told, at the latest after {@linkcode FILE_LOOK_TIMEOUT_MS}.
 */
export async function fileSize(path: string): Promise<number | undefined> {
  try {
    const info = await answerOf(path, "stat", () => Deno.stat(path));
    return info.isFile ? info.size : undefined;
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error instanceof UnreachableFile ? error : new UnreachableFile(path, reasonOf(error), error);
  }
}

/** Bytes of all parts of the model at `path`; undefined when one is missing. Throws and waits as {@linkcode fileSize}. */
export async function modelSize(path: string): Promise<number | undefined> {
  const sizes = await Promise.all(splitPaths(path).map(fileSize));
  return sizes.reduce((sum, size) => sum === undefined || size === undefined ? undefined : sum + size, 0);
}

/** Where `path` leads, links followed; the path itself where nothing is there or nobody says. Waits as {@linkcode fileSize}. */
export async function fileBehind(path: string): Promise<string> {
  return await answerOf(path, "realpath", () => Deno.realPath(path)).catch(() => path);
}

/** Whoever asks what is asked already waits for the same answer, and no longer than the first one would. */
async function answerOf<T>(path: string, question: string, ask: () => Promise<T>): Promise<T> {
  const key = `${question} ${path}`;
  let asked = open.get(key);
  if (asked === undefined) {
    asked = { answer: ask().finally(() => open.delete(key)), askedMs: performance.now() };
    open.set(key, asked);
  }
  const late = Promise.withResolvers<never>();
  const seconds = FILE_LOOK_TIMEOUT_MS / 1000;
  const timer = setTimeout(
    () => late.reject(new UnreachableFile(path, `its disk has not answered for ${seconds} s`)),
    Math.max(0, asked.askedMs + FILE_LOOK_TIMEOUT_MS - performance.now()),
  );
  try {
    return await Promise.race([asked.answer as Promise<T>, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** No file can have a name that long, and none is at the end of links that go in a circle. */
function isAbsence(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory ||
    error instanceof Deno.errors.FilesystemLoop ||
    (error instanceof Error && "code" in error && error.code === "ENAMETOOLONG");
}

function reasonOf(error: unknown): string {
  if (error instanceof Deno.errors.PermissionDenied) return "permission denied";
  return error instanceof Error ? error.message.replace(/ \(os error \d+\).*$/s, "") : String(error);
}

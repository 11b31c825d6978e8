/** Names of split models: `NAME-00001-of-00003.gguf` and its siblings are one model (SPEC §2). */
import { MAX_SPLIT_PARTS } from "./limits.ts";

/** What a file's name says about its place in a model. */
export interface SplitName {
  /** Path without part number and extension: the same for all parts. */
  stem: string;
  /** From 1. */
  part: number;
  /** How many there are. */
  parts: number;
}

const PART = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/i;

/** The parts of a `.gguf` path; a file that is no part of a split model is the only one of its own. */
export function splitNameOf(path: string): SplitName {
  const match = PART.exec(path);
  const [part, parts] = match === null ? [1, 1] : [Number(match[2]), Number(match[3])];
  if (match === null || part < 1 || part > parts || parts > MAX_SPLIT_PARTS) {
    return { stem: path.replace(/\.gguf$/i, ""), part: 1, parts: 1 };
  }
  return { stem: match[1], part, parts };
}

/** The paths of all parts of the model that `path` belongs to, in order. */
export function splitPaths(path: string): string[] {
  const match = PART.exec(path);
  const { parts } = splitNameOf(path);
  if (match === null || parts === 1) return [path];
  const digits = (value: number) => String(value).padStart(5, "0");
  return Array.from({ length: parts }, (_, index) => {
    return `${match[1]}-${digits(index + 1)}-of-${match[3]}${path.slice(-".gguf".length)}`;
  });
}

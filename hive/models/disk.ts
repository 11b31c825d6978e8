/** Room on the disk that holds a folder. */
import { dirname } from "@std/path";
import { statfs } from "node:fs/promises";

/** Bytes. */
export interface DiskSpace {
  /** Size of the file system. */
  totalBytes: number;
  /** What this user may still write. */
  freeBytes: number;
}

/** Of the file system that holds `path`, or will once its missing folders are made. */
export async function diskSpace(path: string): Promise<DiskSpace> {
  for (let at = path;; at = dirname(at)) {
    try {
      const { bsize, blocks, bavail } = await statfs(at);
      return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT" || dirname(at) === at) throw error;
    }
  }
}

/** The lock of one file of the cache: the one that `hf` takes, so that nobody fetches what another is fetching. */
import { dirname, join } from "@std/path";
import { repoFolderName } from "./cache.ts";
import { CACHE_LOCK_POLL_MS } from "./limits.ts";
import type { Timing } from "./timing.ts";

/** Options of {@linkcode lockBlob}. */
export interface LockOptions {
  /** Folder of the cache. */
  root: string;
  /** `OWNER/REPO`. */
  repo: string;
  /** Ends the waiting. */
  signal: AbortSignal;
  /** Clock. */
  timing: Timing;
  /** Called while another process holds it, again and again. */
  onWait?: () => void;
}

/**
 * Waits for the lock of the blob of this digest: `.locks/REPO_FOLDER/DIGEST.lock`, held by `flock` while the file is
 * open, so that it is free again however its holder ended. The empty file stays, as `hf` leaves it too.
 */
export async function lockBlob(digestHex: string, options: LockOptions): Promise<Disposable> {
  const { root, repo, signal, timing } = options;
  while (true) {
    const lock = await tryLockBlob(digestHex, { root, folder: repoFolderName(repo) });
    if (lock !== undefined) return lock;
    options.onWait?.();
    await timing.delay(CACHE_LOCK_POLL_MS, signal);
  }
}

/** The same lock if it is free now, for a repository by the name of its folder. */
export async function tryLockBlob(
  digestHex: string,
  at: { root: string; folder: string },
): Promise<Disposable | undefined> {
  const path = join(at.root, ".locks", at.folder, `${digestHex}.lock`);
  await Deno.mkdir(dirname(path), { recursive: true });
  const file = await Deno.open(path, { write: true, create: true });
  try {
    if (await file.tryLock(true)) return file;
  } catch (error) {
    file.close();
    throw error;
  }
  file.close();
}

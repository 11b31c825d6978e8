/** The thread of a {@linkcode FollowingDigest}: reads a file as far as it is said to be there. */
/// <reference lib="deno.worker" />
import type { Hash } from "node:crypto";
import { type DigestAnswer, type DigestOrder, newHash } from "./following_digest.ts";
import { REHASH_CHUNK_BYTES } from "./limits.ts";

interface Reading {
  handle: Deno.FsFile;
  hash: Hash;
  size: number;
  doneBytes: number;
}

const buffer = new Uint8Array(REHASH_CHUNK_BYTES);
let reading: Reading | undefined;

self.onmessage = ({ data }: MessageEvent<DigestOrder>) => {
  try {
    if ("file" in data) {
      reading = {
        handle: Deno.openSync(data.file.path),
        hash: newHash(data.file),
        size: data.file.size,
        doneBytes: 0,
      };
    } else if (reading !== undefined) {
      readUntil(reading, data.untilBytes);
    }
  } catch (error) {
    answer({ error: error instanceof Error ? error.message : String(error) });
  }
};

function readUntil(file: Reading, untilBytes: number): void {
  while (file.doneBytes < untilBytes) {
    const count = file.handle.readSync(
      buffer.subarray(0, Math.min(buffer.length, untilBytes - file.doneBytes)),
    );
    if (count === null) throw new Error(`the file ends at byte ${file.doneBytes} of ${file.size}`);
    file.hash.update(buffer.subarray(0, count));
    file.doneBytes += count;
  }
  if (file.doneBytes === file.size) {
    file.handle.close();
    reading = undefined;
    answer({ hex: file.hash.digest("hex") });
  }
}

function answer(message: DigestAnswer): void {
  self.postMessage(message);
}

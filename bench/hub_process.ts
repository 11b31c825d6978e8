/**
 * The other side of a download, in a process of its own: a hub with one model of about BYTES, which it makes up as it
 * is read. Arguments: BYTES [BYTES_PER_SECOND of each connection]. Prints its address.
 */
import { startHub } from "../tests/helpers/hub.ts";
import { largeModel } from "../tests/helpers/large_model.ts";

/** Its repository. */
export const REPO = "bench/large";
/** The model in it. */
export const FILE = "large-Q4_K_M.gguf";

if (import.meta.main) {
  const [bytes, bytesPerSecond] = Deno.args.map(Number);
  const hub = await startHub({ repos: { [REPO]: { files: { [FILE]: largeModel(bytes) } } }, bytesPerSecond });
  console.log(hub.url);
}

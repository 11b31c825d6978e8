import { assert } from "@std/assert";
import { fromFileUrl } from "@std/path";

const SOAK = fromFileUrl(new URL("../../tests/soak/gguf_headers.ts", import.meta.url));
/** Less than the 64 MB that reading a header may take, with what the program needs anyhow. */
const SMALL_HEAP = "--v8-flags=--max-old-space-size=48,--max-semi-space-size=4";

Deno.test("damaged headers are INVALID_MODEL or still right, in a small heap", async () => {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", SMALL_HEAP, SOAK, "--headers", "3000", "--seed", "2"],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assert(success, decoder.decode(stdout) + decoder.decode(stderr));
});

import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { ggufScalar, writeRawGguf } from "../tests/helpers/gguf_format.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "../tests/helpers/gguf_writer.ts";

const LOADER = fromFileUrl(new URL("../tests/helpers/load_models.ts", import.meta.url));
/** Sets the clipboard, clears the screen, turns text around and forges a line of the log. */
const HOSTILE = '\x1b]52;c;eA==\x07\x1b[2J\u009b31m\u202e\r\n{"level":"error","message":"forged"}';

Deno.test("what a model file has llama.cpp say is one printable line of bounded length for each message", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const { metadata, tensors } = llamaGgufParts({ ...TINIEST_LLAMA, name: HOSTILE });
    const text = ggufScalar("str", HOSTILE);
    const files: Record<string, typeof metadata> = {
      "key that is there twice": [...metadata, [HOSTILE, text], [HOSTILE, text]],
      "long key": [...metadata, [HOSTILE.repeat(500), text], [HOSTILE.repeat(500), text]],
      "unknown architecture": metadata.map((
        [key, value],
      ) => [key, key === "general.architecture" ? text : value]),
      "broken template": [...metadata, ["tokenizer.chat_template", ggufScalar("str", `{% ${HOSTILE} %}`)]],
    };
    const paths: string[] = [];
    for (const [name, changed] of Object.entries(files)) {
      const path = join(folder, `${name}.gguf`);
      await writeRawGguf(path, { metadata: changed, tensors });
      paths.push(path);
    }
    const { stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "-A", LOADER, ...paths],
      stdout: "null",
    }).output();
    const said = new TextDecoder("utf-8", { fatal: true }).decode(stderr);
    assertEquals(said.match(/(?!\n)[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e]/gu) ?? [], [], said);
    assertStringIncludes(said, "\\u001b]52;c;eA==");
    for (const line of said.split("\n")) {
      assertEquals(line.startsWith("{") || line.length > 5_000, false, line);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

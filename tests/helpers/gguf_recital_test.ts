import { assertEquals } from "@std/assert";
import { answer, loadEngine } from "./engine.ts";
import { writeRecitalGguf } from "./gguf_recital.ts";

Deno.test("a reciting model says its text, whatever it is asked", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const said =
      'Well: <tool_call>\n{"name": "f", "arguments": {"ä": [1, 1, 1, 1]}}\n</tool_call>  🙂 the end';
    await writeRecitalGguf(`${folder}/recital.gguf`, said, 512);
    const engine = await loadEngine(`${folder}/recital.gguf`);
    for (const prompt of ["Once", "f", "the end", "🙂\n"]) {
      const { text, stats } = await answer(engine, { prompt, temperature: 0 });
      assertEquals([text, stats.stop_reason], [said, "eos"]);
    }
    await engine.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { hostileGgufs } from "./helpers/gguf_hostile.ts";

const LOADER = fromFileUrl(new URL("./helpers/load_models.ts", import.meta.url));
/** So few that one that hangs is found in time, so many that starting processes is not all there is. */
const FILES_PER_PROCESS = 20;
const PROCESS_TIMEOUT_MS = 60_000;

Deno.test("the engine answers every damaged or hostile GGUF with an error, in a process that lives on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const unusable = new Map<string, boolean>();
    for (const { name, bytes, unusable: refused } of hostileGgufs()) {
      const path = join(folder, `${name}.gguf`);
      await Deno.writeFile(path, bytes);
      unusable.set(path, refused);
    }
    const paths = [...unusable.keys()];
    const wrong: string[] = [];
    for (let at = 0; at < paths.length; at += FILES_PER_PROCESS) {
      const batch = paths.slice(at, at + FILES_PER_PROCESS);
      const { outcomes, end } = await load(batch);
      for (const path of batch) {
        const outcome = outcomes.get(path) ?? `process ended (${end})`;
        const right = outcome === "INVALID_MODEL" || (outcome === "generated" && !unusable.get(path));
        if (!right) wrong.push(`${path}: ${outcome}`);
      }
    }
    assertEquals(wrong, []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

async function load(paths: string[]): Promise<{ outcomes: Map<string, string>; end: string }> {
  const { stdout, code, signal } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", LOADER, ...paths],
    signal: AbortSignal.timeout(PROCESS_TIMEOUT_MS),
    stderr: "null",
  }).output();
  const lines = new TextDecoder().decode(stdout).trim().split("\n").filter((line) => line !== "");
  const outcomes = lines.map((line) => JSON.parse(line)).map(({ path, outcome }) => [path, outcome] as const);
  return { outcomes: new Map(outcomes), end: signal ?? `code ${code}` };
}

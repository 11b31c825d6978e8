import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseCommandLine } from "./cli.ts";
import { COMMANDS } from "./command_table.ts";
import { renderHelp } from "./help.ts";

Deno.test("the top level lists every command with its summary, and no second names", () => {
  const section = renderHelp([], COMMANDS).split("\n\n")[2].split("\n");
  const listed = COMMANDS.filter(({ unlisted }) => !unlisted);
  assertEquals(section.length, listed.length + 1);
  for (const [i, { path, summary }] of listed.entries()) {
    assertEquals(section[i + 1].trim().replace(/ {2,}/, ": "), `${path.join(" ")}: ${summary}`);
  }
});

Deno.test("a group lists its own commands by their second word", () => {
  const text = renderHelp(["pool"], COMMANDS);
  assertStringIncludes(text, "Usage: rbee-keeper pool COMMAND [FLAGS]");
  assertMatch(text, /\n {2}health +ask a machine's hive/);
  assert(!text.includes("infer"));
});

Deno.test("a command's help names every flag with its default, within 100 columns", () => {
  for (const command of COMMANDS) {
    const text = renderHelp(command.path, COMMANDS);
    for (const flag of Object.keys(command.flags)) assertStringIncludes(text, `--${flag}`);
    for (const line of text.split("\n")) assert(line.length <= 100, line);
  }
  const infer = renderHelp(["infer"], COMMANDS);
  assertStringIncludes(infer, "Usage: rbee-keeper infer --prompt TEXT|- [FLAGS]");
  assertMatch(
    infer,
    /\n {2}--temperature T +0 always takes the likeliest token, higher is wilder \(default: 0\.7\)\n/,
  );
});

Deno.test("a value that may stand without its flag is shown so", () => {
  const usage = (...path: string[]) =>
    renderHelp(path, COMMANDS).split("\n").find((line) => line.startsWith("Usage"));
  assertEquals(usage("models", "rm"), "Usage: rbee-keeper models rm REF [FLAGS]");
  assertEquals(usage("models", "verify"), "Usage: rbee-keeper models verify [REF] [FLAGS]");
});

Deno.test("every example is a command line that parses", () => {
  for (const command of COMMANDS) {
    for (const example of command.examples) {
      const words = [...example.split(" < ")[0].matchAll(/"([^"]*)"|(\S+)/g)].map((word) =>
        word[1] ?? word[2]
      );
      const asked = parseCommandLine(words, COMMANDS);
      assertEquals([asked.kind, asked.kind === "command" && asked.problems], ["command", []], example);
    }
  }
});

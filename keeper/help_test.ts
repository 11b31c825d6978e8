import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseCommandLine } from "./cli.ts";
import { COMMANDS } from "./command_table.ts";
import { renderHelp } from "./help.ts";

Deno.test("the top level lists every command and nothing else", () => {
  const text = renderHelp([], COMMANDS);
  assertEquals(
    text.split("\n\n")[2],
    [
      "Commands",
      "  infer          send a prompt to a model and print the answer as it comes",
      "  models list    show the models of a machine, their size and last use",
      "  models pull    download a model, so that it is there when it is wanted",
      "  models rm      remove a model that no worker has loaded",
      "  models verify  read models again and compare their checksums",
      "  models prune   remove downloaded models that were not used for longest",
      "  pool health    ask a machine's hive whether it is well",
      "  workers list   show the workers of every machine that is known",
    ].join("\n"),
  );
});

Deno.test("a group lists its own commands by their second word", () => {
  const text = renderHelp(["pool"], COMMANDS);
  assertStringIncludes(text, "Usage: rbee-keeper pool COMMAND [FLAGS]");
  assertStringIncludes(text, "  health  ask a machine's hive");
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

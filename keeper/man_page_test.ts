import { assert, assertEquals } from "@std/assert";
import { COMMANDS } from "./command_table.ts";
import { manPage } from "./man_page.ts";

const hasMan = await new Deno.Command("man", { args: ["--version"], stdout: "null", stderr: "null" }).output()
  .then(({ success }) => success, () => false);

Deno.test({
  name: "man shows every command with its flags, and has nothing to complain of",
  ignore: !hasMan,
  async fn() {
    const path = await Deno.makeTempFile({ suffix: ".1" });
    try {
      await Deno.writeTextFile(path, manPage(COMMANDS, "1.2.3"));
      const { stdout, stderr } = await new Deno.Command("man", {
        args: ["--warnings", "-E", "UTF-8", "-l", path],
        env: { MANWIDTH: "1000", LC_ALL: "C.UTF-8", MANPAGER: "cat" },
      }).output();
      // deno-lint-ignore no-control-regex
      const text = new TextDecoder().decode(stdout).replace(/.\u0008|\u001b\[[0-9;]*m/g, "");
      assertEquals(new TextDecoder().decode(stderr), "");
      for (const { path, flags, unlisted } of COMMANDS) {
        if (unlisted) continue;
        assert(text.includes(`rbee-keeper ${path.join(" ")}`), path.join(" "));
        for (const flag of Object.keys(flags)) assert(text.includes(`--${flag}`), flag);
      }
      assert(text.includes("rbee 1.2.3"));
    } finally {
      await Deno.remove(path);
    }
  },
});

Deno.test("text of the table can't become a request", () => {
  const command = { ...COMMANDS[0], details: ".so /etc/passwd\n'br" };
  const page = manPage([command], "1");
  assertEquals(page.match(/^[.']so|^'br/gm), null);
});

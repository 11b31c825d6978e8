import { assertEquals } from "@std/assert";
import { NodeConfig } from "./config_schema.ts";
import { shellWord, sshDestination } from "./ssh.ts";

Deno.test("a destination's port is a flag of ssh's, and nothing in it can be another", () => {
  assertEquals(sshDestination("me@mac"), ["--", "me@mac"]);
  assertEquals(sshDestination("mac:2222"), ["-p", "2222", "--", "mac"]);
  assertEquals(sshDestination("me@[fe80::1]:22"), ["-p", "22", "--", "me@fe80::1"]);
  assertEquals(sshDestination("[fe80::1]"), ["--", "fe80::1"]);
});

Deno.test("the configuration takes no destination or path that a program could read as more than that", () => {
  const accepts = (fields: Record<string, string>) =>
    NodeConfig.safeParse({ url: "http://mac:9200", ...fields }).success;
  for (const ssh of ["mac", "me@mac", "me@mac.local:22", "[::1]:2222", "u_1@10.0.0.1"]) {
    assertEquals(accepts({ ssh }), true, ssh);
  }
  for (const ssh of ["-oProxyCommand=x", "me@-x", "a b", "mac;ls", "$(ls)", "", "a'b"]) {
    assertEquals(accepts({ ssh }), false, ssh);
  }
  for (const install_path of ["rbee", "/opt/rbee", ".local/share/rbee", "a.b/..c/d..", "a/.../b", "rbee/"]) {
    assertEquals(accepts({ install_path }), true, install_path);
  }
  for (
    const install_path of [
      "-x",
      "a b",
      "$HOME",
      "a;b",
      "",
      "/",
      "//",
      ".",
      "..",
      "./",
      "../x",
      "a/..",
      "a/./b",
      "/..",
      "a\nb",
      "a\n",
    ]
  ) {
    assertEquals(accepts({ install_path }), false, install_path);
  }
});

Deno.test("a word is one word for a shell, whatever is in it", async () => {
  const words = ["plain", "two words", "it's", '$HOME `ls` "x"', "a\nb", "\\"];
  const script = `printf '%s\\0' ${words.map(shellWord).join(" ")}`;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  assertEquals(new TextDecoder().decode(stdout).split("\0").slice(0, -1), words);
});

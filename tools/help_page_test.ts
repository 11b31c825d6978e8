import { assertEquals } from "@std/assert";
import { helpPage } from "./help_page.ts";

Deno.test("a help becomes a page whose text no character turns into a command", () => {
  const page = helpPage("a-daemon: serves\nall. And more.\n\n  --path C:\\x\n.hidden", "1.2.3");
  assertEquals(page.split("\n"), [
    '.TH A-DAEMON 1 "" "rbee 1.2.3" "User Commands"',
    ".SH NAME",
    "a\\-daemon \\- serves all",
    ".SH DESCRIPTION",
    ".nf",
    "a\\-daemon: serves",
    "all. And more.",
    "",
    "  \\-\\-path C:\\ex",
    "\\&.hidden",
    ".fi",
    ".SH SEE ALSO",
    ".BR rbee-keeper (1)",
    "",
  ]);
});

import { assertEquals } from "@std/assert";
import { compareVersions } from "./version_order.ts";

Deno.test("versions are ordered by number, not by text", () => {
  const order = (a: string, b: string) => Math.sign(compareVersions(a, b));
  assertEquals([order("0.9.0", "0.10.0"), order("1.0.0", "1.0.0"), order("2.0", "1.9.9")], [-1, 0, 1]);
  assertEquals([order("1.2.0-rc1", "1.2.0"), order("1.2", "1.2.0"), order("odd", "0.0.1")], [0, 0, -1]);
});

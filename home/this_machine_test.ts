import { assertEquals } from "@std/assert";
import { isThisMachine } from "./this_machine.ts";

Deno.test("loopback and the addresses of this machine are this machine, names and others are not", () => {
  const own = Deno.networkInterfaces().filter(({ family }) => family === "IPv4").map(({ address }) =>
    address
  );
  for (const host of ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", ...own]) {
    assertEquals(isThisMachine(`http://${host}:9200/path`), true, host);
  }
  for (const host of ["mac", "127.0.0.1.example.org", "192.0.2.7", "[2001:db8::1]", "localhost.lan"]) {
    assertEquals(isThisMachine(`http://${host}:9200`), false, host);
  }
});

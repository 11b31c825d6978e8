import { assert, assertEquals, assertThrows } from "@std/assert";
import { isAbsolute, resolve } from "@std/path";
import { RbeeError } from "../protocol/errors.ts";
import { ensureHome, rbeeHome } from "./paths.ts";

const env = (values: Record<string, string>) => ({ get: (name: string) => values[name] });

Deno.test("RBEE_HOME goes before HOME, and HOME before USERPROFILE", () => {
  assertEquals(rbeeHome(env({ RBEE_HOME: "/x", HOME: "/home/me" })), "/x");
  assertEquals(rbeeHome(env({ HOME: "/home/me", USERPROFILE: "/p" })), "/home/me/.rbee");
  assertEquals(rbeeHome(env({ USERPROFILE: "/p" })), "/p/.rbee");
});

Deno.test("a variable that is set to nothing counts as not set", () => {
  assertEquals(rbeeHome(env({ RBEE_HOME: "", HOME: "/home/me" })), "/home/me/.rbee");
  assertEquals(rbeeHome(env({ HOME: "", USERPROFILE: "/p" })), "/p/.rbee");
});

Deno.test("home is absolute, wherever a program that was started from here runs", () => {
  assertEquals(rbeeHome(env({ RBEE_HOME: "some/where" })), resolve("some/where"));
  assert(isAbsolute(rbeeHome(env({ HOME: "me" }))));
});

Deno.test("with no place at all, the error says which variable to set", () => {
  const error = assertThrows(() => rbeeHome(env({})), RbeeError, "Set RBEE_HOME");
  assertEquals(error.code, "INVALID_REQUEST");
});

Deno.test("the home folder is made private with its logs inside, again and again without harm", async () => {
  const parent = await Deno.makeTempDir();
  const before = Deno.umask(0);
  try {
    const home = `${parent}/deep/er/.rbee`;
    await ensureHome(home);
    await ensureHome(home);
    for (const path of [home, `${home}/logs`]) {
      assertEquals((await Deno.stat(path)).mode! & 0o777, 0o700, path);
    }
  } finally {
    Deno.umask(before);
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("a home folder that others could look into is closed, what is in it stays", async () => {
  const home = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${home}/config.yaml`, "log: {}");
    await Deno.chmod(home, 0o755);
    await ensureHome(home);
    assertEquals((await Deno.stat(home)).mode! & 0o777, 0o700);
    assertEquals(await Deno.readTextFile(`${home}/config.yaml`), "log: {}");
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});

import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigSchema } from "../home/config_schema.ts";
import { RbeeError } from "../protocol/errors.ts";
import { isLoopback } from "../home/this_machine.ts";
import { ownKey } from "./own_key.ts";

async function inTempHome(body: (home: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir();
  try {
    await body(`${parent}/.rbee`);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

const OTHERS_REACH = [
  "0.0.0.0",
  "::",
  "192.168.1.5",
  "10.0.0.1",
  "gpu-box",
  "127.0.0.1.example.com",
  "1127.0.0.1",
  "",
];

Deno.test("only this machine's own addresses are loopback", () => {
  for (const hostname of ["localhost", "127.0.0.1", "127.1.2.3", "::1"]) {
    assertEquals(isLoopback(hostname), true);
  }
  for (const hostname of OTHERS_REACH) assertEquals(isLoopback(hostname), false, hostname);
});

Deno.test("on loopback, a key is made in a private home and used ever after", () =>
  inTempHome(async (home) => {
    const options = { config: ConfigSchema.parse({}), home, hostname: "127.0.0.1" };
    const key = await ownKey(options);
    assertMatch(key, /^rbee-/);
    assertEquals(await ownKey(options), key);
    assertEquals((await Deno.readTextFile(`${home}/api_key`)).trim(), key);
    assertEquals((await Deno.stat(`${home}/api_key`)).mode! & 0o777, 0o600);
    assertEquals((await Deno.stat(home)).mode! & 0o777, 0o700);
  }));

Deno.test("where others could reach it, a daemon without a key does not start and makes none, but says how to", () =>
  inTempHome(async (home) => {
    for (const hostname of OTHERS_REACH) {
      const error = await assertRejects(
        () => ownKey({ config: ConfigSchema.parse({}), home, hostname }),
        RbeeError,
      );
      assertEquals(error.code, "INVALID_REQUEST");
      assertStringIncludes(error.message, `${home}/api_key`);
      await assertRejects(() => Deno.lstat(home), Deno.errors.NotFound);
    }
  }));

Deno.test("the command that the refusal gives makes a key that the next start takes", () =>
  inTempHome(async (home) => {
    const options = { config: ConfigSchema.parse({}), home, hostname: "0.0.0.0" };
    const { message } = await assertRejects(() => ownKey(options), RbeeError);
    await Deno.mkdir(home);
    const command = message.split("\n").at(-1)!.trim();
    assert((await new Deno.Command("sh", { args: ["-c", command] }).output()).success);
    assertMatch(await ownKey(options), /^[A-Za-z0-9]{30,}$/);
  }));

Deno.test("a configured key is taken wherever the daemon listens, and a broken one never replaced", () =>
  inTempHome(async (home) => {
    const config = ConfigSchema.parse({ api_key: "configured-key" });
    for (const hostname of ["127.0.0.1", "0.0.0.0"]) {
      assertEquals(await ownKey({ config, home, hostname }), "configured-key");
    }
    const broken = ConfigSchema.parse({ api_key_file: `${home}/none` });
    await assertRejects(
      () => ownKey({ config: broken, home, hostname: "127.0.0.1" }),
      RbeeError,
      "does not exist",
    );
    await assertRejects(() => Deno.lstat(home), Deno.errors.NotFound);
  }));

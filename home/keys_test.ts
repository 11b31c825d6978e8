import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import { raceInProcesses } from "../tests/helpers/racing.ts";
import { type Config, ConfigSchema } from "./config_schema.ts";
import { configuredKey, createLocalKey, fingerprint, localKeyPath, newKey, readKeyFile } from "./keys.ts";

const KEY = "sk-a-key-of-somebody";

async function inTempHome(body: (home: string) => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  try {
    await body(home);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

/** Writes a key file and says why it is refused. */
async function refusal(home: string, text: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = `${home}/key`;
  if (typeof text === "string") text = new TextEncoder().encode(text);
  await Deno.writeFile(path, text, { mode: 0o600 });
  await Deno.chmod(path, mode);
  const error = await assertRejects(() => readKeyFile(path), RbeeError);
  await Deno.remove(path);
  assertEquals(error.code, "INVALID_REQUEST");
  assertStringIncludes(error.message, path);
  assert(!Deno.inspect(error).includes("secret"), "the error shows the key");
  return error.message;
}

const configOf = (values: Record<string, unknown>): Config => ConfigSchema.parse(values);

Deno.test("a fresh key is long, printable, fit for its own file and never the same", () => {
  assertMatch(newKey(), /^rbee-[A-Za-z0-9_-]{43}$/);
  assert(newKey() !== newKey());
});

Deno.test("a fingerprint is the first six hex digits of the SHA-256", async () => {
  assertEquals(await fingerprint("abc"), "ba7816");
});

Deno.test("a key is read from a private file with one line, blank lines and line ends aside", () =>
  inTempHome(async (home) => {
    for (const text of [KEY, `${KEY}\n`, `\n\n  ${KEY}\t\r\n\r\n`]) {
      for (const mode of [0o600, 0o400]) {
        await Deno.writeTextFile(`${home}/key`, text);
        await Deno.chmod(`${home}/key`, mode);
        assertEquals(await readKeyFile(`${home}/key`), KEY);
        await Deno.remove(`${home}/key`);
      }
    }
  }));

Deno.test("a file that anybody else could read or change is refused, with the command that mends it", () =>
  inTempHome(async (home) => {
    for (const mode of [0o604, 0o640, 0o644, 0o660, 0o606, 0o666, 0o700, 0o777, 0o440, 0o500]) {
      const why = await refusal(home, "secret-key-1", mode);
      assertStringIncludes(why, `0${mode.toString(8)}`);
      assertStringIncludes(why, `chmod 600 ${home}/key`);
    }
  }));

Deno.test("no line, several lines, odd characters and wrong lengths are refused, and the key is not shown", () =>
  inTempHome(async (home) => {
    assertStringIncludes(await refusal(home, ""), "it has 0");
    assertStringIncludes(await refusal(home, "\n \r\n"), "it has 0");
    assertStringIncludes(await refusal(home, "secret-key-1\nsecret-key-2"), "it has 2");
    for (
      const text of [
        "secret key",
        "sécret-key",
        "secret\u0000key",
        "secret\u001bkey",
        "short12",
        "🐝".repeat(9),
      ]
    ) {
      assertStringIncludes(await refusal(home, text), "8 to 4096 printable characters");
    }
    await refusal(home, new Uint8Array(16).fill(0xff));
    await refusal(home, "x".repeat(4097));
    assertStringIncludes(await refusal(home, "secret-key".repeat(1000)), "larger than");
  }));

Deno.test("what is no file is refused without being waited for", () =>
  inTempHome(async (home) => {
    assertStringIncludes(
      (await assertRejects(() => readKeyFile(`${home}/none`), RbeeError)).message,
      "does not exist",
    );
    await new Deno.Command("mkfifo", { args: ["-m", "600", `${home}/fifo`] }).output();
    for (const path of [home, `${home}/fifo`, "/dev/zero"]) {
      const error = await assertRejects(() => readKeyFile(path), RbeeError);
      assertStringIncludes(error.message, "not a regular file");
    }
  }));

Deno.test("the key of the configuration goes before its file, and that before the local one", () =>
  inTempHome(async (home) => {
    await Deno.writeTextFile(`${home}/other`, "key-in-a-file", { mode: 0o600 });
    assertEquals(await configuredKey(configOf({}), home), undefined);
    const local = await createLocalKey(home);
    assertEquals(await configuredKey(configOf({}), home), local);
    const api_key_file = `${home}/other`;
    assertEquals(await configuredKey(configOf({ api_key_file }), home), "key-in-a-file");
    assertEquals(await configuredKey(configOf({ api_key_file, api_key: KEY }), home), KEY);
  }));

Deno.test("a configured key that can't be used is an error, never silently another key", () =>
  inTempHome(async (home) => {
    await createLocalKey(home);
    const bad = [{ api_key: "secret\n" }, { api_key: "secret" }, { api_key_file: `${home}/none` }];
    for (const values of bad) {
      const error = await assertRejects(() => configuredKey(configOf(values), home), RbeeError);
      assert(!Deno.inspect(error).includes("secret"));
    }
    await Deno.chmod(localKeyPath(home), 0o644);
    await assertRejects(() => configuredKey(configOf({}), home), RbeeError, "0644");
    await Deno.remove(localKeyPath(home));
    await Deno.symlink(`${home}/nowhere`, localKeyPath(home));
    await assertRejects(() => configuredKey(configOf({}), home), RbeeError, "does not exist");
    await assertRejects(() => configuredKey(configOf({}), "/dev/null"), Error, "Not a directory");
  }));

Deno.test("many callers at once get one key, and nothing else is left in the folder", () =>
  inTempHome(async (home) => {
    const keys = await Promise.all(Array.from({ length: 64 }, () => createLocalKey(home)));
    assertEquals(new Set(keys).size, 1);
    assertEquals(await readKeyFile(localKeyPath(home)), keys[0]);
    assertEquals(Array.from(Deno.readDirSync(home), ({ name }) => name), ["api_key"]);
  }));

Deno.test("processes at the same moment get one key", () =>
  inTempHome(async (home) => {
    const outputs = await raceInProcesses(
      `const keys = await Promise.all(Array.from({ length: 8 }, () => createLocalKey(${
        JSON.stringify(home)
      })));
       console.log(JSON.stringify(keys));`,
      { count: 4, modules: { createLocalKey: new URL("./keys.ts", import.meta.url).href } },
    );
    assertEquals(new Set(outputs.flatMap((output) => JSON.parse(output))).size, 1);
  }));

Deno.test("an existing key is kept, and one that is open to others is an error rather than replaced", () =>
  inTempHome(async (home) => {
    const key = await createLocalKey(home);
    assertEquals(await createLocalKey(home), key);
    await Deno.chmod(localKeyPath(home), 0o644);
    await assertRejects(() => createLocalKey(home), RbeeError, "0644");
  }));

Deno.test("at no moment can others read a key that is being made, whatever the umask", async () => {
  const before = Deno.umask(0);
  try {
    for (let round = 0; round < 40; round++) {
      await inTempHome(async (home) => {
        let made = false;
        const making = createLocalKey(home).then(() => made = true);
        do {
          for (const { name } of Deno.readDirSync(home)) {
            const mode = modeOf(`${home}/${name}`);
            assert(mode === undefined || mode === 0o600, `${name} was seen with mode ${mode?.toString(8)}`);
          }
          await new Promise((resolve) => setTimeout(resolve, 0));
        } while (!made);
        await making;
      });
    }
  } finally {
    Deno.umask(before);
  }
});

/** Permission bits; undefined for a file that has gone meanwhile. */
function modeOf(path: string): number | undefined {
  try {
    return Deno.lstatSync(path).mode! & 0o777;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

Deno.test("a credential of systemd may be readable by its group, any other key file may not", async () => {
  const folder = await Deno.makeTempDir();
  const elsewhere = await Deno.makeTempDir();
  try {
    const env = new Map([["CREDENTIALS_DIRECTORY", folder]]);
    const keyIn = async (place: string, mode: number) => {
      const path = `${place}/api_key-${mode}`;
      await Deno.writeTextFile(path, "a-key-of-systemd\n");
      await Deno.chmod(path, mode);
      return path;
    };
    assertEquals(await readKeyFile(await keyIn(folder, 0o440), env), "a-key-of-systemd");
    await assertRejects(async () => await readKeyFile(await keyIn(folder, 0o444), env));
    const other = await keyIn(elsewhere, 0o440);
    await assertRejects(() => readKeyFile(other, env));
    await assertRejects(() => readKeyFile(`${folder}/../${other.slice(other.indexOf("/", 1) + 1)}`, env));
    await Deno.symlink(other, `${folder}/link`);
    await assertRejects(() => readKeyFile(`${folder}/link`, env));
    await assertRejects(() => readKeyFile(`${folder}/api_key-${0o440}`, new Map()));
  } finally {
    for (const path of [folder, elsewhere]) await Deno.remove(path, { recursive: true });
  }
});

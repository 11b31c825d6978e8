import { assertEquals, assertRejects } from "@std/assert";
import { ConfigSchema } from "../../home/config_schema.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { readHubToken } from "./hub_token.ts";

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function read(env: Record<string, string>, token_file?: string) {
  return readHubToken(ConfigSchema.parse({ hub: { token_file } }), new Map(Object.entries(env)));
}

Deno.test("the environment goes before the configuration, and that before the file of hf", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/token`, "hf_standard\n");
    await Deno.writeTextFile(`${folder}/mine`, " hf_mine \n");
    const env = { HF_HOME: folder };
    assertEquals((await read({ ...env, HF_TOKEN: "hf_env" }, `${folder}/mine`))?.value, "hf_env");
    assertEquals((await read({ ...env, HF_TOKEN: "" }, `${folder}/mine`))?.value, "hf_mine");
    assertEquals(await read(env), { value: "hf_standard", source: `${folder}/token` });
    assertEquals((await read({ ...env, HF_TOKEN_PATH: `${folder}/mine` }))?.value, "hf_mine");
  }));

Deno.test("no token anywhere is no error", () =>
  withFolder(async (folder) => assertEquals(await read({ HF_HOME: folder }), undefined)));

Deno.test("a configured file that cannot be used is an error that does not show what is in it", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/empty`, "\n");
    await Deno.writeTextFile(`${folder}/two`, "hf_secret hf_other\n");
    for (const name of ["absent", "empty", "two"]) {
      const error = await assertRejects(
        () => read({ HF_HOME: folder }, `${folder}/${name}`),
        RbeeError,
        name,
      );
      assertEquals(error.code, "INVALID_REQUEST");
      assertEquals(error.message.includes("hf_"), false);
    }
  }));

import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ConfigSchema } from "../../home/config_schema.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { cacheRoot, snapshotPath } from "./cache.ts";
import { fileSize } from "./file_look.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";

function rootFor(env: Record<string, string>, models_dir?: string): string {
  return cacheRoot(
    ConfigSchema.parse({ hive: { models_dir } }),
    new Map(Object.entries({ HOME: "/home/ada", ...env })),
  );
}

Deno.test("the cache is where the Hugging Face tools have theirs", () => {
  assertEquals(rootFor({}), "/home/ada/.cache/huggingface/hub");
  assertEquals(rootFor({ XDG_CACHE_HOME: "/cache" }), "/cache/huggingface/hub");
  assertEquals(rootFor({ HF_HOME: "~/hf" }), "/home/ada/hf/hub");
  assertEquals(rootFor({ HF_HOME: "/hf", HF_HUB_CACHE: "/models" }), "/models");
  assertEquals(rootFor({ HF_HUB_CACHE: "/models" }, "/disk2/models"), "/disk2/models");
});

function pathFor(path: string): string {
  return snapshotPath("/cache", { repo: "acme/tiny", commit: COMMIT, path });
}

Deno.test("a plain path lies within its snapshot", () => {
  assertEquals(pathFor("Q4_0/m.gguf"), `/cache/models--acme--tiny/snapshots/${COMMIT}/Q4_0/m.gguf`);
});

Deno.test("no path of a hub leaves its snapshot", () => {
  const hostile = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/.",
    "",
    "a\\..\\b",
    "a\0b",
    "C:x",
    "a\nb",
  ];
  for (const path of hostile) {
    assertEquals(assertThrows(() => pathFor(path), RbeeError).code, "INVALID_MODEL");
  }
  const pieces = fc.constantFrom("..", ".", "/", "\\", "a", "b.gguf", "\0", "~", "%2e%2e", "");
  fc.assert(fc.property(fc.array(pieces).map((parts) => parts.join("")), (path) => {
    let made: string;
    try {
      made = pathFor(path);
    } catch (error) {
      assert(error instanceof RbeeError);
      return;
    }
    assertEquals(made, `/cache/models--acme--tiny/snapshots/${COMMIT}/${path}`);
  }));
});

Deno.test("a link to itself and a name too long for any disk are no files", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.symlink(`${folder}/loop.gguf`, `${folder}/loop.gguf`);
    assertEquals(await fileSize(`${folder}/loop.gguf`), undefined);
    assertEquals(await fileSize(`${folder}/${"a".repeat(400)}.gguf`), undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type BuildChoice,
  type BuildPaths,
  buildPaths,
  fingerprint,
  isUpToDate,
  lastChoice,
  replaceFile,
  writeStamp,
} from "./build_stamp.ts";

const CPU: BuildChoice = { backend: "cpu" };

Deno.test("what was built is up to date until a source changes, however the times change", async () => {
  await withTree(async (paths) => {
    await markBuilt(paths, CPU);
    assert(await isUpToDate(paths, CPU));
    Deno.utimeSync(`${paths.root}/worker/native/src/engine.cpp`, 1, 1);
    assert(await isUpToDate(paths, CPU));
    Deno.writeTextFileSync(`${paths.root}/worker/native/src/engine.cpp`, "int main() { return 1; }");
    assert(!await isUpToDate(paths, CPU));
  });
});

Deno.test("a new, a removed and a moved source each make a build necessary", async () => {
  await withTree(async (paths) => {
    const source = `${paths.root}/worker/native/src`;
    await markBuilt(paths, CPU);
    Deno.writeTextFileSync(`${source}/deep/new.cpp`, "");
    assert(!await isUpToDate(paths, CPU));
    await markBuilt(paths, CPU);
    Deno.renameSync(`${source}/deep/new.cpp`, `${source}/deep/newer.cpp`);
    assert(!await isUpToDate(paths, CPU));
    await markBuilt(paths, CPU);
    Deno.removeSync(`${source}/deep/newer.cpp`);
    assert(!await isUpToDate(paths, CPU));
  });
});

Deno.test("another version of the addon's headers, and another CMakeLists.txt, make a build necessary", async () => {
  await withTree(async (paths) => {
    await markBuilt(paths, CPU);
    writeManifest(paths.root, "npm:node-addon-api@9");
    assert(!await isUpToDate(paths, CPU));
    await markBuilt(paths, CPU);
    Deno.writeTextFileSync(`${paths.root}/CMakeLists.txt`, "project(other)");
    assert(!await isUpToDate(paths, CPU));
  });
});

Deno.test("a build for one backend or architecture is none for another, and the last choice is remembered", async () => {
  await withTree(async (paths) => {
    const cuda: BuildChoice = { backend: "cuda", cudaArch: "90" };
    await markBuilt(paths, cuda);
    assertEquals(lastChoice(paths), cuda);
    assert(await isUpToDate(paths, cuda));
    assert(!await isUpToDate(paths, CPU));
    assert(!await isUpToDate(paths, { backend: "cuda", cudaArch: "80" }));
  });
});

Deno.test("a missing addon, one of another size and a broken record are not up to date", async () => {
  await withTree(async (paths) => {
    await markBuilt(paths, CPU);
    Deno.writeTextFileSync(paths.addon, "cut");
    assert(!await isUpToDate(paths, CPU));
    Deno.removeSync(paths.addon);
    assert(!await isUpToDate(paths, CPU));
    await markBuilt(paths, CPU);
    Deno.writeTextFileSync(paths.stamp, '{"backend":');
    assert(!await isUpToDate(paths, CPU));
  });
});

Deno.test("a file that can't be written whole leaves the old one as it was, and nothing beside it", async () => {
  await withTree((paths) => {
    Deno.writeTextFileSync(paths.addon, "old");
    assertThrows(() =>
      replaceFile(paths.addon, (temp) => {
        Deno.writeTextFileSync(temp, "half");
        throw new Error("Disk full");
      })
    );
    assertEquals(Deno.readTextFileSync(paths.addon), "old");
    assertEquals([...Deno.readDirSync(paths.build)].map((entry) => entry.name), ["rbee_engine.node"]);
    return Promise.resolve();
  });
});

/** The parts of a checkout that a build depends on. */
async function withTree(test: (paths: BuildPaths) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    const paths = buildPaths(root);
    for (const folder of ["tools", "worker/native/src/deep", "worker/native/build"]) {
      Deno.mkdirSync(`${root}/${folder}`, { recursive: true });
    }
    Deno.writeTextFileSync(`${root}/CMakeLists.txt`, "project(rbee)");
    Deno.writeTextFileSync(`${root}/tools/cmake.ts`, "export {};");
    Deno.writeTextFileSync(`${root}/worker/native/src/engine.cpp`, "int main() {}");
    writeManifest(root, "npm:node-addon-api@8");
    await test(paths);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

function writeManifest(root: string, addonApi: string): void {
  const imports = { "cmake-js": "npm:cmake-js@8", "node-addon-api": addonApi };
  Deno.writeTextFileSync(`${root}/deno.json`, JSON.stringify({ imports }));
}

async function markBuilt(paths: BuildPaths, choice: BuildChoice): Promise<void> {
  Deno.writeTextFileSync(paths.addon, "a whole addon");
  writeStamp(paths, choice, await fingerprint(paths.root, choice));
}

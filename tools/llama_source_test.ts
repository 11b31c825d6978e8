import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { BuildError } from "./build_error.ts";
import { runCommand } from "./command.ts";
import { LLAMA_RELEASE } from "./llama_release.ts";
import { ensureLlamaSource, LLAMA_FOLDER, type LlamaRelease } from "./llama_source.ts";

Deno.test("sources come from the package where the submodule's address can't be reached", async () => {
  await using scene = await makeScene();
  await scene.makeCheckout(`file://${scene.folder}/nowhere`);
  const said = await scene.ensure();
  assertStringIncludes(said, "can't be reached");
  assertStringIncludes(said, "npm package");
  assertEquals(await Deno.readTextFile(`${scene.source}/src/llama.cpp`), "release one\n");
  assertEquals(await git(scene.root, "status", "--porcelain"), "", "the project stays clean");
  assertEquals(await scene.workFiles(), ["llama_source.json"]);
  assertEquals(await scene.ensure(), "", "the second time there is nothing to do");
});

Deno.test("sources come from the submodule where its address answers", async () => {
  await using scene = await makeScene();
  await scene.makeCheckout(`file://${scene.folder}/upstream`);
  // Git refuses submodules on the local disk unless told otherwise.
  Deno.env.set("GIT_ALLOW_PROTOCOL", "file");
  try {
    assertStringIncludes(await scene.ensure(), "git submodule");
  } finally {
    Deno.env.delete("GIT_ALLOW_PROTOCOL");
  }
  assertEquals(await git(scene.source, "rev-parse", "HEAD"), scene.release.commit);
  assertEquals(await git(scene.root, "status", "--porcelain"), "");
  assertEquals(await scene.ensure(), "");
});

Deno.test("sources come from the package in an archive without a repository", async () => {
  await using scene = await makeScene();
  assertStringIncludes(await scene.ensure(), "npm package");
  assertEquals(await Deno.readTextFile(`${scene.source}/src/llama.cpp`), "release one\n");
});

Deno.test("right sources that are already there are recognised by their content", async () => {
  await using scene = await makeScene();
  await scene.ensure();
  await Deno.remove(`${scene.work}/llama_source.json`);
  await scene.ensure({ bundlePackage: `${scene.folder}/no-such-package` });
});

Deno.test("a package with other content is refused, and nothing of it stays", async () => {
  await using scene = await makeScene();
  const wrong = { tree: "0".repeat(40) };
  await assertRejects(() => scene.ensure(wrong), BuildError, "has the content");
  await assertRejects(() => Deno.lstat(scene.source), Deno.errors.NotFound);
  assertEquals(await scene.workFiles(), []);
});

Deno.test("a folder of unknown origin is neither used nor touched", async () => {
  await using scene = await makeScene();
  await Deno.mkdir(scene.source);
  await Deno.writeTextFile(`${scene.source}/mine.txt`, "precious");
  await assertRejects(() => scene.ensure(), BuildError, "Move it away or remove it");
  assertEquals(await Deno.readTextFile(`${scene.source}/mine.txt`), "precious");
});

Deno.test("a checkout at another commit is left to its owner when it can't be updated", async () => {
  await using scene = await makeScene();
  await git(scene.folder, "clone", "-q", "upstream", scene.source);
  await git(
    scene.source,
    "-c",
    "user.name=t",
    "-c",
    "user.email=t",
    "commit",
    "-q",
    "--allow-empty",
    "-m",
    "x",
  );
  await Deno.writeTextFile(`${scene.source}/src/llama.cpp`, "my work\n");
  await git(scene.source, "-c", "user.name=t", "-c", "user.email=t", "commit", "-q", "-a", "-m", "x");
  await assertRejects(() => scene.ensure(), BuildError, "is a git checkout, but not of");
  assertEquals(await Deno.readTextFile(`${scene.source}/src/llama.cpp`), "my work\n");
});

Deno.test("a repository without a commit, as a fetch that was cut short leaves it, is not taken for the release", async () => {
  await using scene = await makeScene();
  await git(scene.folder, "init", "-q", scene.source);
  await assertRejects(() => scene.ensure(), BuildError, "is a git checkout, but not of");
});

Deno.test("a new release replaces the sources that an older one put there", async () => {
  await using scene = await makeScene();
  await scene.ensure();
  const next = await scene.publish("release two\n");
  await scene.ensure(next);
  assertEquals(await Deno.readTextFile(`${scene.source}/src/llama.cpp`), "release two\n");
});

Deno.test("the submodule points to the release that is built", async () => {
  const root = new URL("..", import.meta.url).pathname;
  const link = await runCommand(["git", "-C", root, "ls-files", "-s", "--", LLAMA_FOLDER]);
  // An archive without a repository, or one where the link is not recorded yet, has nothing to compare.
  if (link.code === 0 && link.stdout) assertStringIncludes(link.stdout, `160000 ${LLAMA_RELEASE.commit}`);
});

/** A project folder, an upstream repository with one release, and an npm package that carries it as a bundle. */
async function makeScene() {
  const folder = await Deno.makeTempDir();
  const root = `${folder}/project`;
  const source = `${root}/${LLAMA_FOLDER}`;
  const work = `${root}/worker/native/build`;
  await Deno.mkdir(work, { recursive: true });
  await Deno.mkdir(`${folder}/upstream/src`, { recursive: true });
  await git(folder, "init", "-q", "upstream");
  await git(`${folder}/upstream`, "config", "uploadpack.allowAnySHA1InWant", "true");

  async function publish(text: string): Promise<LlamaRelease> {
    const upstream = `${folder}/upstream`;
    await Deno.writeTextFile(`${upstream}/CMakeLists.txt`, "project(llama)\n");
    await Deno.writeTextFile(`${upstream}/src/llama.cpp`, text);
    // Ignored files belong to a release as well when they are committed.
    await Deno.writeTextFile(`${upstream}/.gitignore`, "*.bin\n");
    await Deno.writeTextFile(`${upstream}/weights.bin`, "x");
    await git(upstream, "add", "-A", "-f");
    await git(upstream, "-c", "user.name=t", "-c", "user.email=t", "commit", "-q", "-m", "release");
    const name = `bundle-${text.trim().replaceAll(" ", "-")}`;
    const bundlePackage = `${folder}/${name}`;
    await Deno.mkdir(`${bundlePackage}/llama`, { recursive: true });
    await Deno.writeTextFile(`${bundlePackage}/package.json`, JSON.stringify({ name, version: "1.0.0" }));
    await git(upstream, "bundle", "create", "-q", `${bundlePackage}/llama/gitRelease.bundle`, "HEAD");
    return {
      tag: "v1",
      commit: await git(upstream, "rev-parse", "HEAD"),
      tree: await git(upstream, "rev-parse", "HEAD^{tree}"),
      bundlePackage,
      bundlePath: LLAMA_RELEASE.bundlePath,
    };
  }

  const release = await publish("release one\n");
  return {
    folder,
    root,
    source,
    work,
    release,
    publish,
    /** Makes the project a repository whose submodule is at `url`. */
    async makeCheckout(url: string) {
      const section = `[submodule "${LLAMA_FOLDER}"]\n\tpath = ${LLAMA_FOLDER}\n\turl = ${url}\n`;
      await Deno.writeTextFile(`${root}/.gitmodules`, section);
      await Deno.writeTextFile(`${root}/.gitignore`, "/worker/native/build/\n");
      await git(root, "init", "-q");
      await git(root, "add", "-A");
      await git(root, "update-index", "--add", "--cacheinfo", `160000,${release.commit},${LLAMA_FOLDER}`);
      await git(root, "-c", "user.name=t", "-c", "user.email=t", "commit", "-q", "-m", "project");
      await Deno.mkdir(source);
    },
    /** Runs the function under test; resolves to what it said. */
    async ensure(changes: Partial<LlamaRelease> = {}): Promise<string> {
      const said: string[] = [];
      await ensureLlamaSource({
        root,
        workFolder: work,
        release: { ...release, ...changes },
        say: (line) => said.push(line),
      });
      return said.join("\n");
    },
    async workFiles(): Promise<string[]> {
      return (await Array.fromAsync(Deno.readDir(work))).map((entry) => entry.name);
    },
    async [Symbol.asyncDispose]() {
      await Deno.remove(folder, { recursive: true });
    },
  };
}

async function git(folder: string, ...args: string[]): Promise<string> {
  const result = await runCommand(["git", "-C", folder, ...args]);
  assertEquals(result.code, 0, `git ${args.join(" ")}: ${result.output}`);
  return result.stdout;
}

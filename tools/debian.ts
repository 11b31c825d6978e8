/** `deno task deb`: the package for Debian and its kin, out of the same folder as the archive. */
import { join } from "@std/path";
import { PROGRAM_NAMES } from "../home/installation.ts";
import { VERSION } from "../protocol/version.ts";
import { ignoreMissing, packTimeUnix, settle } from "./archive.ts";
import { bundle, type BundleRequest, copyFile, must, parseBundleArgs } from "./bundle.ts";
import { projectRoot } from "./project_files.ts";
import { taskMain } from "./task_main.ts";

const ARCHITECTURES: Record<string, string> = { x86_64: "amd64", aarch64: "arm64" };
/** Oldest C library that the engine's symbols are all in. */
const LIBC = "2.34";
/** Where parts of the archive go in the package. */
const PLACES: [from: string, to: string][] = [
  ["lib", "usr/lib/rbee/lib"],
  ["share/man", "usr/share/man"],
  ["share/bash-completion/completions/rbee-keeper", "usr/share/bash-completion/completions/rbee-keeper"],
  ["share/zsh/site-functions/_rbee-keeper", "usr/share/zsh/vendor-completions/_rbee-keeper"],
  [
    "share/fish/vendor_completions.d/rbee-keeper.fish",
    "usr/share/fish/vendor_completions.d/rbee-keeper.fish",
  ],
  ["share/systemd/system", "usr/lib/systemd/system"],
  ["THIRD_PARTY_NOTICES", "usr/share/doc/rbee/THIRD_PARTY_NOTICES"],
  ["LICENSE", "usr/share/doc/rbee/copyright"],
];

/**
 * Makes `rbee_VERSION_ARCHITECTURE.deb` in `request.to`; returns its path.
 *
 * @throws {BuildError} when a step fails.
 */
export async function debianPackage(
  root: string,
  request: BundleRequest,
  options: { signal?: AbortSignal } = {},
): Promise<string> {
  const { signal } = options;
  const folder = await bundle(root, { ...request, archive: false }, options);
  const architecture = ARCHITECTURES[Deno.build.arch];
  const made = join(request.to, `rbee_${VERSION}_${architecture}.deb`);
  const aside = await Deno.makeTempDir({ prefix: "rbee-deb-" });
  try {
    for (const [from, to] of PLACES) await copy(join(folder, from), join(aside, to));
    for (const name of Object.values(PROGRAM_NAMES)) {
      await copy(join(folder, name), join(aside, "usr/lib/rbee", name));
      await Deno.mkdir(join(aside, "usr/bin"), { recursive: true });
      await Deno.symlink(`../lib/rbee/${name}`, join(aside, "usr/bin", name));
    }
    for (const name of ["postinst", "prerm", "postrm"]) {
      await copy(join(root, "packaging/debian", name), join(aside, "DEBIAN", name));
    }
    await Deno.writeTextFile(join(aside, "DEBIAN/control"), control(architecture));
    await copy(join(root, "CHANGELOG.md"), join(aside, "usr/share/doc/rbee/changelog"));
    const pages = Object.values(PROGRAM_NAMES).map((name) => `usr/share/man/man1/${name}.1`);
    const texts = [...pages, "usr/share/doc/rbee/changelog"];
    await must(["gzip", "-9n", ...texts.map((path) => join(aside, path))]);
    settle(aside);
    const env = { SOURCE_DATE_EPOCH: String(packTimeUnix()) };
    const argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", aside, made];
    await must(argv, { env, signal });
    return made;
  } finally {
    await Deno.remove(aside, { recursive: true }).catch(ignoreMissing);
  }
}

function control(architecture: string): string {
  return `Package: rbee
Version: ${VERSION}
Architecture: ${architecture}
Maintainer: the rbee authors <rbee@localhost>
Section: science
Priority: optional
Depends: adduser, libc6 (>= ${LIBC})
Recommends: openssh-client
Description: language models on all machines of a house as if they were one
 A command line (rbee-keeper), a daemon for each machine that fetches models
 and runs them (rbee-hive, a service), a worker for each model
 (llm-worker-rbee), and a daemon that makes many machines one address for
 clients of OpenAI and Anthropic (queen-rbee, a service that is not enabled).
`;
}

async function copy(from: string, to: string): Promise<void> {
  if ((await Deno.stat(from)).isDirectory) {
    for await (const { name } of Deno.readDir(from)) await copy(join(from, name), join(to, name));
    return;
  }
  await copyFile(from, to);
}

if (import.meta.main) {
  const work = async (request: BundleRequest, signal: AbortSignal) =>
    console.error(`Made ${await debianPackage(projectRoot(), request, { signal })}`);
  const usage = "The options are those of deno task bundle.";
  Deno.exit(await taskMain(parseBundleArgs(Deno.args), { usage, work }));
}

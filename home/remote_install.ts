/** rbee put on another machine over ssh: this installation's archive, unpacked there and installed by its own script. */
import { basename, dirname, join } from "@std/path";
import { RbeeError } from "../protocol/errors.ts";
import { DEFAULT_HIVE_PORT } from "../protocol/limits.ts";
import { bundleName, INSTALLATION, IS_BUNDLED, type Platform } from "./installation.ts";
import { newKey } from "./keys.ts";
import { there } from "./remote_hive.ts";
import { shellWord } from "./ssh.ts";

/** What others call it. */
const SYSTEMS: Record<string, string> = { Linux: "linux", Darwin: "darwin" };
const PROCESSORS: Record<string, string> = { x86_64: "x86_64", aarch64: "aarch64", arm64: "aarch64" };

/** Options of {@linkcode installThere}. */
export interface InstallThereOptions {
  /** What the machine is called here. */
  name: string;
  ssh: string;
  /** Where to, as a word for a shell: below the home folder unless absolute. */
  folder: string;
  /** Another archive than this installation's own. */
  archive?: string;
  /** Whether the hive is to run as a service of the user there, where there is a manager for it. */
  service: boolean;
  /** Shell commands before the installer, which may restart a hive: what that is to find in its environment. */
  before?: string;
  /** Called when the kind of machine is known, before anything is sent. */
  prepare?: (platform: Platform) => Promise<void>;
  /** Told what is said there. */
  onLine?: (line: string) => void;
  signal: AbortSignal;
}

/**
 * Installs or upgrades. What runs there is not disturbed; a version that does not pass its self-test there is not put in
 * place.
 *
 * @throws {RbeeError} `NODE_UNREACHABLE` with what was said there, `NOT_FOUND` when there is no archive for it.
 */
export async function installThere(options: InstallThereOptions): Promise<void> {
  const { name, ssh, folder, service, onLine, signal } = options;
  const platform = await platformThere(options);
  await options.prepare?.(platform);
  const stdin = await openArchive(platform, options);
  const flags = service ? "" : " --no-service";
  const script = `set -eu
cd; to=${folder}; case $to in /*) ;; *) to=$HOME/$to ;; esac
aside=$(mktemp -d); trap 'rm -rf "$aside"' EXIT
tar -xzf - -C "$aside"
${options.before ?? ""}
"$aside"/*/install.sh --to "$to"${flags} 1>&2`;
  await there(name, ssh, { script, stdin, onLine, signal });
}

/**
 * Gives a machine's hive a key, and a configuration with which others reach it at `url`, unless it has them. Keys go
 * through ssh's pipes only.
 *
 * @returns the key that it has now.
 */
export async function configureThere(
  { name, ssh, url, signal }: { name: string; ssh: string; url: string; signal: AbortSignal },
): Promise<string> {
  const { hostname, port } = new URL(url);
  const listen = `hive: { listen: "0.0.0.0:${port || "80"}", advertise: "${hostname}" }`;
  const script = `set -eu; umask 077
home=\${RBEE_HOME:-$HOME/.rbee}; mkdir -p "$home"
read -r key
test -e "$home/api_key" || printf '%s\\n' "$key" > "$home/api_key"
test -e "$home/config.yaml" || printf '%s\\n' ${shellWord(listen)} > "$home/config.yaml"
cat "$home/api_key"`;
  return (await there(name, ssh, { script, stdin: `${newKey()}\n`, signal })).trim();
}

/** Where the hive of a machine listens that is known by its ssh destination alone. */
export function hiveUrlOf(sshHost: string): string {
  return `http://${sshHost.includes(":") ? `[${sshHost}]` : sshHost}:${DEFAULT_HIVE_PORT}`;
}

/** What kind of machine it is; looks for what unpacking takes, too. */
async function platformThere({ name, ssh, signal }: InstallThereOptions): Promise<Platform> {
  const script = `for tool in tar gzip mktemp; do
  command -v $tool >/dev/null || { echo "there is no $tool" >&2; exit 69; }
done
uname -sm`;
  const said = (await there(name, ssh, { script, signal })).trim();
  const [system, processor] = said.split(" ");
  const platform = { os: SYSTEMS[system], arch: PROCESSORS[processor] };
  if (platform.os !== undefined && platform.arch !== undefined) return platform;
  throw new RbeeError(
    "NODE_UNREACHABLE",
    `${name} is a machine that rbee does not run on: ${said.slice(0, 80)}`,
  );
}

/** The archive for such a machine: the one asked for, one that was made here, or this unpacked one packed again. */
async function openArchive(
  platform: Platform,
  { archive, signal }: InstallThereOptions,
): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const home = IS_BUNDLED ? dirname(INSTALLATION) : INSTALLATION;
  const name = bundleName(platform);
  const isOwn = platform.os === Deno.build.os && platform.arch === Deno.build.arch;
  if (archive === undefined && IS_BUNDLED && isOwn) {
    // Level 1: between machines of a house packing takes longer than sending, and level 6 saves a twelfth of the bytes.
    const args = ["-C", dirname(home), "--use-compress-program", "gzip -1", "-cf", "-", basename(home)];
    return new Deno.Command("tar", { args, stdin: "null", stdout: "piped", stderr: "null", signal }).spawn()
      .stdout;
  }
  const path = archive ?? join(IS_BUNDLED ? dirname(home) : join(home, "dist"), `${name}.tar.gz`);
  try {
    return (await Deno.open(path)).readable;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RbeeError("NOT_FOUND", `There is no archive ${path}`, {
      details: { advice: [`deno task bundle makes it, on a machine of that kind (${name}).`] },
      cause: error,
    });
  }
}

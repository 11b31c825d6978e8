/** Another machine, as far as ssh can tell: a real sshd on loopback whose sessions live in a home of their own. */
import { join } from "@std/path";
import { eventually } from "./eventually.ts";
import { freePort } from "./free_port.ts";

const SSHD = "/usr/sbin/sshd";

/** A running sshd, and what a keeper needs to reach it. */
export interface SshMachine extends AsyncDisposable {
  /** USER@HOST:PORT. */
  readonly destination: string;
  /** `HOME` of its sessions. */
  readonly home: string;
  /** Put first on a `PATH`: an ssh that knows this machine and its key. */
  readonly bin: string;
  /** What ssh needs to reach it, for {@linkcode sshTo}. */
  readonly identity: { key: string; knownHosts: string };
  /** Runs a command in its shell. @throws {Error} with what it wrote, when it fails. */
  run(command: string): Promise<string>;
  /** From now on the key is refused. */
  refuseKeys(): Promise<void>;
  /** The power fails for a moment: all that runs there is killed, and sshd alone comes back. */
  powerCut(): Promise<void>;
}

/** Whether this machine can do it. */
export const canServeSsh: boolean = await Promise.all([SSHD, "ssh", "ssh-keygen"].map(async (program) => {
  try {
    await new Deno.Command(program, { args: ["-V"], stdin: "null", stdout: "null", stderr: "null" }).output();
    return true;
  } catch {
    return false;
  }
})).then((there) => there.every(Boolean));

/** Starts one. `env` is what its sessions have beside the usual. */
export async function startSshd(env: Readonly<Record<string, string>>): Promise<SshMachine> {
  const folder = await Deno.makeTempDir({ prefix: "rbee-ssh-" });
  const path = (name: string) => join(folder, name);
  const home = path("home");
  await Deno.mkdir(home);
  await Deno.mkdir(path("bin"));
  for (const key of ["host", "user"]) {
    await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", path(key)]);
  }
  await Deno.copyFile(path("user.pub"), path("authorized_keys"));
  // Root's sshd insists on a folder that init scripts make.
  if (Deno.uid() === 0) await Deno.mkdir("/run/sshd", { recursive: true, mode: 0o755 });
  const port = freePort();
  const set = Object.entries({ ...env, HOME: home }).map(([name, value]) => `"${name}=${value}"`).join(" ");
  await Deno.writeTextFile(
    path("sshd_config"),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${path("host")}`,
      `AuthorizedKeysFile ${path("authorized_keys")}`,
      "StrictModes no",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "UsePAM no",
      "PermitRootLogin yes",
      `PidFile ${path("pid")}`,
      `SetEnv ${set}`,
    ].join("\n"),
  );
  const hostKey = (await Deno.readTextFile(path("host.pub"))).split(" ").slice(0, 2).join(" ");
  await Deno.writeTextFile(path("known_hosts"), `[127.0.0.1]:${port} ${hostKey}\n`);
  const identity = { key: path("user"), knownHosts: path("known_hosts") };
  await sshTo([{ identity }], path("bin"));
  const serve = async () => {
    const child = new Deno.Command(SSHD, {
      args: ["-D", "-e", "-f", path("sshd_config")],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await eventually("sshd to listen", async () => {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port })).close();
        return true;
      } catch {
        return false;
      }
    });
    return child;
  };
  let child = await serve();
  const user = (await run("id", ["-un"])).trim();
  return {
    destination: `${user}@127.0.0.1:${port}`,
    home,
    bin: path("bin"),
    identity,
    run: (command) => run(path("bin/ssh"), ["-p", String(port), `${user}@127.0.0.1`, command]),
    async powerCut() {
      child.kill("SIGKILL");
      await child.status;
      for await (const pid of processesOf(home)) {
        try {
          Deno.kill(pid, "SIGKILL");
        } catch (error) {
          if (!(error instanceof Deno.errors.NotFound)) throw error;
        }
      }
      await eventually(
        "all of it to be dead",
        async () => (await Array.fromAsync(processesOf(home))).length === 0,
      );
      child = await serve();
    },
    refuseKeys: () => Deno.writeTextFile(path("authorized_keys"), ""),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
      await Deno.remove(folder, { recursive: true });
    },
  };
}

/** Makes an ssh in a folder that reaches all of these machines. */
export async function sshTo(
  machines: readonly Pick<SshMachine, "identity">[],
  folder: string,
): Promise<void> {
  const keys = machines.map(({ identity }) => `IdentityFile ${identity.key}\n`).join("");
  const hosts = machines.map(({ identity }) => identity.knownHosts).join(" ");
  const config = join(folder, "ssh_config");
  await Deno.writeTextFile(
    config,
    `${keys}IdentitiesOnly yes\nUserKnownHostsFile ${hosts}\nIdentityAgent none\n`,
  );
  const ssh = (await run("sh", ["-c", "command -v ssh"])).trim();
  await Deno.writeTextFile(join(folder, "ssh"), `#!/bin/sh\nexec ${ssh} -F ${config} "$@"\n`, {
    mode: 0o755,
  });
}

/** Process ids of all that a session of this home has begun, and that still runs. */
async function* processesOf(home: string): AsyncGenerator<number> {
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = await Deno.readTextFile(`/proc/${name}/environ`);
      if (environment.split("\0").includes(`HOME=${home}`)) yield Number(name);
    } catch {
      // It has ended meanwhile.
    }
  }
}

async function run(program: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

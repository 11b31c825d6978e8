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
  /** From now on the key is refused. */
  refuseKeys(): Promise<void>;
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
  await Deno.writeTextFile(
    path("ssh_config"),
    `IdentityFile ${path("user")}\nIdentitiesOnly yes\nUserKnownHostsFile ${
      path("known_hosts")
    }\nIdentityAgent none\n`,
  );
  const ssh = (await run("sh", ["-c", "command -v ssh"])).trim();
  await Deno.writeTextFile(path("bin/ssh"), `#!/bin/sh\nexec ${ssh} -F ${path("ssh_config")} "$@"\n`, {
    mode: 0o755,
  });
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
  const user = (await run("id", ["-un"])).trim();
  return {
    destination: `${user}@127.0.0.1:${port}`,
    home,
    bin: path("bin"),
    refuseKeys: () => Deno.writeTextFile(path("authorized_keys"), ""),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
      await Deno.remove(folder, { recursive: true });
    },
  };
}

async function run(program: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

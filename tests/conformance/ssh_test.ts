/** What goes wrong over ssh, told apart: the last line of "More" in SPEC §8. */
import { emptyHome, type Finished, runKeeper } from "../../keeper/testing/keeper_process.ts";
import { canServeSsh, type SshMachine, startSshd } from "../helpers/sshd.ts";
import { saw } from "./scenario.ts";
import { freePort } from "../helpers/free_port.ts";

/** A person who knows a machine called gpu, on which sshd runs and rbee is not installed. */
function overSsh(
  name: string,
  then: (type: (...args: string[]) => Promise<Finished>, machine: SshMachine) => Promise<void>,
): void {
  Deno.test({
    name: `ssh: ${name}`,
    ignore: !canServeSsh,
    async fn() {
      await using machine = await startSshd({ PATH: "/usr/bin:/bin" });
      await using home = await emptyHome();
      const env = { PATH: `${machine.bin}:${Deno.env.get("PATH")}` };
      const type = (...args: string[]) => runKeeper(args, { home, env });
      await type("nodes", "add", "gpu", "--ssh", machine.destination, "--url", "http://127.0.0.1:9200");
      await then(type, machine);
    },
  });
}

overSsh("given a machine without rbee, nodes start says how to install it", async (type) => {
  saw(await type("nodes", "start", "gpu"), {
    code: 1,
    stderr: [
      "Starting the hive on gpu ...",
      "Error: gpu could not do it: rbee is not installed in TMP/home/.local/share/rbee",
      "  Install it: rbee-keeper nodes install gpu",
      "  The log ends with:",
      "    rbee is not installed in TMP/home/.local/share/rbee",
    ],
  });
});

overSsh("given a key that is refused, nodes start says how to put it there", async (type, machine) => {
  await machine.refuseKeys();
  saw(await type("nodes", "start", "gpu"), {
    code: 1,
    stderr: [
      "Starting the hive on gpu ...",
      "Error: Cannot reach USER@HOST:PORT by ssh: USER@127.0.0.1: Permission denied (publickey).",
      "  The key was refused. Put yours there: ssh-copy-id USER@HOST:PORT (an agent or ~/.ssh/config must offer it without a password).",
    ],
  });
});

overSsh("given a machine that is off, nodes start says what to check", async (type) => {
  await type("nodes", "add", "gpu", "--ssh", `127.0.0.1:${freePort()}`);
  saw(await type("nodes", "start", "gpu"), {
    code: 1,
    stderr: [
      "Starting the hive on gpu ...",
      "Error: Cannot reach HOST:PORT by ssh: ssh: connect to host HOST port PORT: Connection refused",
      "  Check that the machine is on, that sshd runs there, and the port.",
    ],
  });
});

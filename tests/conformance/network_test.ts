/** Keeper and hives on machines of their own: names, addresses, cables that are cut or bad. */
import { assert, assertEquals } from "@std/assert";
import { startKeeper } from "../../keeper/testing/keeper_process.ts";
import { newKey } from "../../home/keys.ts";
import { type Daemon, startDaemon } from "../helpers/daemons.ts";
import { fakeWorkerCommand, type FakeWorkerOptions } from "../helpers/fake_worker.ts";
import { buildHouse, canNetwork, type House, type SlowCable } from "../helpers/network.ts";
import { tempHome } from "../helpers/temp_home.ts";
import { INFER, LOADING, masked, saw, STARTING, STORY } from "./scenario.ts";
import { keeperHome } from "../helpers/keeper_home.ts";

const PORT = 9200;

/** Three machines: a person at blep, hives on workstation and mac. */
async function inHouse(
  given: { worker?: FakeWorkerOptions; mac?: SlowCable },
  then: (world: {
    house: House;
    type: (...args: string[]) => ReturnType<typeof startKeeper>;
    mac: Daemon;
  }) => Promise<void>,
): Promise<void> {
  await using house = await buildHouse({ blep: "cable", workstation: "cable", mac: given.mac ?? "cable" });
  await using workstation = await startMachine(house, "workstation", given.worker);
  await using mac = await startMachine(house, "mac", given.worker);
  await using home = await keeperHome({ workstation, mac }, { node: "mac" });
  const type = (...args: string[]) => startKeeper(args, { home, within: house.on("blep") });
  await then({ house, type, mac });
}

async function startMachine(house: House, name: string, worker: FakeWorkerOptions = {}) {
  const home = await tempHome();
  const key = newKey();
  const hive = startDaemon({
    main: "hive/main.ts",
    permissions: "hive",
    within: house.on(name),
    args: ["daemon", "--listen", `0.0.0.0:${PORT}`, "--advertise", name],
    env: { ...home.env, RBEE_API_KEY: key, RBEE_WORKER_COMMAND: JSON.stringify(fakeWorkerCommand(worker)) },
  });
  await hive.logged("hive ready", ({ message }) => message === "hive ready");
  return {
    ...{ ...hive, key, url: `http://${name}:${PORT}` },
    async [Symbol.asyncDispose]() {
      await hive.stop();
      await home[Symbol.asyncDispose]();
    },
  };
}

function network(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `network: ${name}`, ignore: !canNetwork, fn });
}

network(
  "given three machines, a person at one gets answers from each of the others by its name",
  () =>
    inHouse({}, async ({ type }) => {
      saw(await type(...INFER).finished, { code: 0, stdout: `${STORY}\n`, stderr: [STARTING, ...LOADING] });
      saw(await type(...INFER, "--node", "workstation").finished, {
        code: 0,
        stdout: `${STORY}\n`,
        stderr: [STARTING.replace("mac", "workstation"), ...LOADING],
      });
      const { stdout } = await type("workers", "list", "--json").finished;
      const { workers }: { workers: { node: string; url: string }[] } = JSON.parse(stdout);
      const names = workers.map(({ node, url }) => `${node} ${new URL(url).hostname}`);
      assertEquals(names.sort(), ["mac mac", "workstation workstation"]);
    }),
);

network(
  "given a cable that is cut in mid-answer, infer notices, keeps what came, and works once it is mended",
  () =>
    inHouse({ worker: { tokenMs: 100 } }, async ({ house, type }) => {
      const infer = type(...INFER);
      await infer.shows("stdout", "upon");
      await house.cut("mac");
      const { code, stdout, stderr } = await infer.finished;
      const [, tokens] = /Tokens generated: (\d+) \/ 20/.exec(stderr)!;
      const heard = stdout.trimEnd().split(" ");
      assertEquals([code, heard.length, STORY.startsWith(heard.join(" "))], [1, Number(tokens), true]);
      assertEquals(masked(stderr).replace(/\d+ \/ 20/, "N / 20").split("\n"), [
        STARTING,
        ...LOADING,
        "Error: The worker died or the connection to it was lost in the middle of its answer",
        "  Partial answer saved to TMP/rbee-partial-ID.txt",
        "  Tokens generated: N / 20",
        "  Run the same command again: a new worker will be started.",
        "",
      ]);
      await house.mend("mac");
      assertEquals((await type(...INFER).finished).stdout, `${STORY}\n`);
    }),
);

network(
  "given a cable with 50 ms of delay that loses one packet in a hundred, answers come whole",
  () =>
    inHouse({ mac: { delayMs: 50, loss: 0.01, seed: 7 } }, async ({ house, type }) => {
      for (let round = 0; round < 4; round++) {
        assertEquals((await type(...INFER).finished).stdout, `${STORY}\n`);
      }
      assert(house.packets.lost > 0, JSON.stringify(house.packets));
    }),
);

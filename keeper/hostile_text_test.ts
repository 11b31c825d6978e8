/** A hive and a model that would take over the terminal of whoever asks them. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { canUseTerminals, startTerminal } from "../tests/helpers/pty.ts";
import { HIVE_ROUTES, WORKER_ROUTES } from "../protocol/routes.ts";
import { keeperCommand, runKeeper, type TestHome, testHome } from "./testing/keeper_process.ts";
import { answerOf, failure, on, standInHive, standInWorker } from "./testing/stand_in.ts";

/** Sets the clipboard and the title, clears the screen, and forges a line; each sequence in its 7 and 8 bit form. */
const HOSTILE =
  "\x1b]52;c;cm0gLXJm\x07\x1b]0;owned\x1b\\\x1b[2J\x1bP+q544e\x1b\\\u009d0;owned\u009c\u009b31m\nError: forged\r\u202e\u2028\b";

const WORKER = {
  ...{ worker_id: HOSTILE, model_ref: HOSTILE, url: "http://127.0.0.1:1", backend: "cpu", device: 0 },
  ...{ state: "idle", slots_total: 4, slots_available: 4, pid: 1 },
  ...{ started_unix: 0, last_activity_unix: 0, last_health_unix: 0 },
};
const LINE = {
  ...{ time: HOSTILE, source: "worker", worker_id: HOSTILE, level: "error", message: HOSTILE },
  fields: { [HOSTILE]: HOSTILE, deep: [HOSTILE] },
};

async function hostileWorld() {
  const worker = standInWorker({
    // Cut anywhere, as tokens are.
    [on(WORKER_ROUTES.inference)]: () => answerOf(["Once", ...HOSTILE, " upon", HOSTILE, "\t\n"]),
  });
  const hive = standInHive(worker, {
    [on(HIVE_ROUTES.workers)]: () => Response.json({ workers: [WORKER] }),
    [on(HIVE_ROUTES.logs)]: () => Response.json({ lines: [LINE] }),
    [on(HIVE_ROUTES.models)]: () => failure("INTERNAL", HOSTILE, { log_tail: [HOSTILE], advice: [HOSTILE] }),
  });
  const home = await testHome(hive);
  return {
    home,
    async [Symbol.asyncDispose]() {
      for (const each of [home, hive, worker]) await each[Symbol.asyncDispose]();
    },
  };
}

const COMMANDS = [
  ["workers", "list", "--node", "stand-in"],
  ["logs", "--node", "stand-in"],
  ["models", "list", "--node", "stand-in"],
  ["models", "rm", HOSTILE, "--node", "stand-in"],
  [HOSTILE],
  ["infer", `--${HOSTILE}`, HOSTILE],
  ["infer", "--model", HOSTILE, "--prompt", "x"],
];
/** Those that show what they were told. */
const SHOWING = COMMANDS.slice(0, 3);
const INFER = ["infer", "--node", "stand-in", "--prompt", "x"];

/** What a terminal would act on, beside line feeds, this program's colours and its status line. */
function steering(text: string): string[] {
  // deno-lint-ignore no-control-regex
  const own = /\x1b\[(?:\?(?:25|7)[hl]|J|\d+A|\d+m)|\r(?=\x1b\[J|\n)/g;
  return text.replaceAll(own, "").match(/(?!\n)[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu) ?? [];
}

function environment(home: TestHome): Record<string, string> {
  const inherited = ["PATH", "HOME", "DENO_DIR"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  });
  return { ...Object.fromEntries(inherited), RBEE_HOME: home.path, TMPDIR: home.path };
}

Deno.test("what a hive or a person's own arguments say is shown escaped in a pipe, each on lines of its own", async () => {
  await using world = await hostileWorld();
  for (const command of COMMANDS) {
    const { stdout, stderr } = await runKeeper(command, world);
    if (SHOWING.includes(command)) assertStringIncludes(stdout + stderr, "\\u001b]52;c;", command.join(" "));
    assertEquals(steering(stdout + stderr), [], `${command}: ${stdout}${stderr}`);
    assert(!/^Error: forged/m.test(stdout + stderr), `${command}: ${stdout}${stderr}`);
    const json = await runKeeper([...command, "--json"], world);
    assertEquals(steering(json.stdout + json.stderr), [], `${command} --json`);
    for (const line of json.stdout.split("\n").slice(0, -1)) JSON.parse(line);
  }
});

Deno.test("JSON has what was said, character by character", async () => {
  await using world = await hostileWorld();
  const listed = JSON.parse((await runKeeper([...COMMANDS[0], "--json"], world)).stdout);
  assertEquals(listed.workers[0].worker_id, HOSTILE);
  const { stdout } = await runKeeper([...INFER, "--json"], world);
  assertEquals(steering(stdout), []);
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(events.map(({ token = "" }) => token).join(""), `Once${HOSTILE} upon${HOSTILE}\t\n`);
});

Deno.test("an answer in a pipe is what the model said, byte for byte", async () => {
  await using world = await hostileWorld();
  assertEquals((await runKeeper(INFER, world)).stdout, `Once${HOSTILE} upon${HOSTILE}\t\n`);
});

Deno.test({
  name: "on a terminal neither a hive nor a model can steer it",
  ignore: !canUseTerminals,
  async fn() {
    await using world = await hostileWorld();
    for (const command of [...COMMANDS, INFER]) {
      await using terminal = startTerminal([...keeperCommand(), ...command], {
        env: environment(world.home),
        columns: 200,
      });
      await terminal.code;
      const shown = terminal.screen();
      const tabs = command === INFER ? /\t/g : /(?!)/g;
      assertEquals(steering(shown.replaceAll(tabs, "")), [], `${command}: ${JSON.stringify(shown)}`);
      if (command === INFER) assertStringIncludes(shown, "Once");
    }
  },
});

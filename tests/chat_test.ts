/** `chat`: over a pipe and on a terminal, with a real hive and a fake worker whose story is known. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { type Finished, keeperCommand, runKeeper, type TestHome } from "../keeper/testing/keeper_process.ts";
import { startHive } from "./helpers/daemons.ts";
import type { FakeWorkerOptions } from "./helpers/fake_worker.ts";
import { keeperHome } from "./helpers/keeper_home.ts";
import { canUseTerminals, ctrl, startTerminal } from "./helpers/pty.ts";
import { tempHome } from "./helpers/temp_home.ts";

/** A hive with fake workers, as the node that the keeper's configuration names. */
async function withChat(worker: FakeWorkerOptions = { mode: "normal" }) {
  const hiveHome = await tempHome();
  const hive = await startHive({ home: hiveHome, worker });
  const home = await keeperHome({ mac: hive }, { node: "mac" });
  return {
    ...{ hive, home, path: home.path },
    say: (stdin: string, ...flags: string[]) => runKeeper(["chat", "--quiet", ...flags], { home, stdin }),
    terminal: (...flags: string[]) =>
      startTerminal([...keeperCommand(), "chat", ...flags], { env: keeperEnv(home) }),
    async [Symbol.asyncDispose]() {
      for (const each of [home, hive, hiveHome]) await each[Symbol.asyncDispose]();
    },
  };
}

function keeperEnv(home: TestHome): Record<string, string> {
  const { PATH = "", HOME = "" } = Deno.env.toObject();
  const DENO_DIR = Deno.env.get("DENO_DIR");
  return {
    PATH,
    HOME,
    ...(DENO_DIR === undefined ? {} : { DENO_DIR }),
    RBEE_HOME: home.path,
    TMPDIR: home.path,
  };
}

function succeeded({ code, stdout, stderr }: Finished): string {
  assertEquals([
    code,
    stderr.replace(/^.*(Saved|Going on|Model|Node|comes before|^ +\w+ = |tokens\/s).*\n/gm, ""),
  ], [0, ""]);
  return stdout;
}

Deno.test("each line of a pipe is a message, and answers go to stdout alone", async () => {
  await using at = await withChat();
  const stdout = succeeded(await at.say("hello\n\nagain\n", "--max-tokens", "3"));
  assertEquals(stdout, "Once upon a \nOnce upon a \n");
});

Deno.test("several lines are one message with a backslash or between quotes; the conversation is saved and loaded", async () => {
  await using at = await withChat();
  const file = join(at.path, "talk.json");
  const typed = `first\\\nsecond\n"""\nthird\n\nfourth"""\n/save ${file}\n`;
  succeeded(await at.say(typed, "--max-tokens", "2", "--system", "Be brief."));
  const saved = JSON.parse(await Deno.readTextFile(file));
  assertEquals(saved, {
    rbee_chat: 1,
    model: "builtin:stories",
    system: "Be brief.",
    settings: { "max-tokens": 2, stop: [] },
    messages: [
      { role: "user", content: "first\nsecond" },
      { role: "assistant", content: "Once upon " },
      { role: "user", content: "third\n\nfourth" },
      { role: "assistant", content: "Once upon " },
    ],
  });
  assertEquals((await Deno.stat(file)).mode! & 0o777, 0o600);
  const other = join(at.path, "other.json");
  succeeded(
    await at.say(`/load ${file}\n/set temperature 0.5\nmore\n/save ${other}\n/save ${file}\n`).then(
      (result) => {
        // It is not this chat's file any more.
        assertEquals(result.code, 1);
        assertStringIncludes(result.stderr, `/save ${file}: it is there already`);
        return { ...result, code: 0, stderr: "" };
      },
    ),
  );
  const more = JSON.parse(await Deno.readTextFile(other));
  assertEquals([more.messages.length, more.settings.temperature, more.system], [6, 0.5, "Be brief."]);
});

Deno.test("what can't be done is said, changes nothing, and is in the exit code of a pipe", async () => {
  await using at = await withChat();
  await Deno.writeTextFile(
    join(at.path, "damaged.json"),
    '{"rbee_chat":1,"model":"builtin:stories","messages":[{}]}',
  );
  const typed = [
    "/set temprature 1",
    "/set temperature 9",
    "/modle",
    "/save",
    "/load none.json",
    `/load ${at.path}/damaged.json`,
  ]
    .map((line) => `${line}\n`).join("");
  const { code, stderr } = await at.say(
    `${typed}/model nonsense\n/node nowhere\nhello\n`,
    "--max-tokens",
    "1",
  );
  assertEquals(code, 1);
  for (
    const part of [
      'There is no setting "temprature"',
      "temperature takes a number from 0 to 2",
      'Did you mean "/model"?',
      "/save needs the name of a file.",
      "/load none.json: there is no such file.",
      "That is no conversation of this program",
      'There is no node "nowhere"',
    ]
  ) assertStringIncludes(stderr, part);
});

Deno.test("a question is asked again, files come before it, and stats are said when asked for", async () => {
  await using at = await withChat();
  await Deno.writeTextFile(join(at.path, "notes.txt"), "a note\n");
  const file = join(at.path, "talk.json");
  const { stdout, stderr } = await at.say(
    `/retry\n/file ${at.path}/notes.txt\nwhat is it?\n/stats\n/retry\n/save ${file}\n/clear\n/retry\n`,
    "--max-tokens",
    "2",
  );
  assertEquals(stdout, "Once upon \nOnce upon \n");
  assertMatch(stderr, /2 tokens, 1000\.0 tokens\/s/);
  assertEquals(stderr.match(/There is no question to ask again/g)?.length, 2);
  const { messages } = JSON.parse(await Deno.readTextFile(file));
  assertEquals(messages, [
    { role: "user", content: "notes.txt:\n```\na note\n```\n\nwhat is it?" },
    { role: "assistant", content: "Once upon " },
  ]);
});

Deno.test("a worker that dies leaves the chat alive", async () => {
  await using at = await withChat({ mode: "dies-mid-answer" });
  const { code, stdout, stderr } = await at.say("one\ntwo\n", "--max-tokens", "20");
  assertEquals(code, 1);
  assertEquals(stdout, "Once upon a time there \n".repeat(2), stderr);
  assertEquals(stderr.match(/Tokens generated: 5 \/ 20/g)?.length, 2);
});

Deno.test({
  name: "on a terminal: editing, history, Ctrl+C stops the answer alone, Ctrl+D leaves",
  ignore: !canUseTerminals,
  async fn() {
    await using at = await withChat({ mode: "normal", tokenMs: 30 });
    await using terminal = at.terminal("--max-tokens", "400");
    await terminal.shows("Talking to builtin:stories on mac.");
    await terminal.shows(">>> ");
    await terminal.type("/set max-tokns 3\x1b[D\x1b[D\x1b[D\x1b[De\r");
    await terminal.shows("max-tokens = 3");
    await terminal.shows(">>> ");
    await terminal.type("hello\r");
    await terminal.shows("Once upon a ");
    await terminal.shows(">>> ");
    await terminal.type("/set max-tokens\r");
    await terminal.shows(">>> ");
    // The arrow key brings back what was said two lines ago.
    await terminal.type("\x1b[A\x1b[A\r");
    await terminal.shows("hello");
    await terminal.shows("Once upon a time there");
    await terminal.type(ctrl("C"));
    await terminal.shows("Canceled.");
    await terminal.shows(">>> ");
    await terminal.type(`not sent${ctrl("C")}`);
    await terminal.shows("(Ctrl+D leaves.)");
    await terminal.shows(">>> ");
    await terminal.type(ctrl("D"));
    assertEquals(await terminal.code, 0);
    const history = await Deno.readTextFile(join(at.path, "chat_history"));
    assertEquals(history, "/set max-tokens 3\nhello\n/set max-tokens\nhello\n");
    assertEquals((await Deno.stat(join(at.path, "chat_history"))).mode! & 0o777, 0o600);
    // The worker is free again: the answer was stopped there, too.
    assert(
      (await at.hive.client.workers()).workers.every(({ slots_available, slots_total }) =>
        slots_available === slots_total
      ),
    );
  },
});

Deno.test({
  name: "on a terminal: Tab completes the chat's own commands",
  ignore: !canUseTerminals,
  async fn() {
    await using at = await withChat();
    await using terminal = at.terminal();
    await terminal.shows(">>> ");
    // Alone, as a finger does it: what comes in one piece is taken for pasted.
    await terminal.type("/mo");
    await terminal.type("\t");
    await terminal.shows("/model ");
    await terminal.type("\r");
    await terminal.shows("Model: builtin:stories");
    await terminal.shows(">>> ");
    await terminal.type(ctrl("D"));
    assertEquals(await terminal.code, 0);
  },
});

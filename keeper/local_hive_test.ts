import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { loadConfig } from "../home/config.ts";
import { RbeeError } from "../protocol/errors.ts";
import type { PhaseContext } from "./context.ts";
import { readHiveFile } from "../home/hive_file.ts";
import { ensureLocalHive } from "./local_hive.ts";
import { hiveLogPath } from "../home/paths.ts";
import { resolveNode } from "./node.ts";
import { Output } from "./output.ts";

const PROGRAM = fromFileUrl(new URL("./testing/small_hive.ts", import.meta.url));
const CONFIG = fromFileUrl(new URL("../deno.json", import.meta.url));

/** A fresh home; whatever hive runs on it in the end is killed. */
async function freshHome() {
  const home = await Deno.makeTempDir({ prefix: "rbee-local-" });
  const env = { get: (name: string) => ({ RBEE_HOME: home, RBEE_HIVE_LISTEN: "127.0.0.1:0" })[name] };
  return {
    home,
    /** One keeper's attempt: whether it started the hive, and what it said. */
    async ensure(behaviour: "serve" | "fail") {
      const said: string[] = [];
      const sink = {
        terminal: false,
        write: () => Promise.resolve(),
        writeSync: (text: string) => void said.push(text),
      };
      const context: PhaseContext = {
        output: new Output({ stdout: sink, stderr: sink }),
        signal: new AbortController().signal,
        correlationId: "test",
      };
      const place = await loadConfig({ env });
      const started = await ensureLocalHive(await resolveNode("localhost", place), place, {
        ...context,
        command: [Deno.execPath(), "run", "-q", "-A", "--config", CONFIG, PROGRAM, home, behaviour],
        // A failing one has no rival to wait for.
        rivalTimeoutMs: behaviour === "fail" ? 100 : undefined,
      });
      return { started, said: said.join("") };
    },
    async [Symbol.asyncDispose]() {
      const running = await readHiveFile(home);
      if (running !== undefined) Deno.kill(running.pid, "SIGKILL");
      await Deno.remove(home, { recursive: true });
    },
  };
}

Deno.test("a hive is started in a session of its own, with a private log, and is there for the next keeper", async () => {
  await using place = await freshHome();
  const first = await place.ensure("serve");
  assertEquals(first.started, true);
  assertMatch(
    first.said,
    /^No hive runs on this machine: starting one in the background \(log: .+hive\.log\)\.\n/,
  );
  assertMatch(
    first.said,
    /\nThe hive is ready at http:\/\/127\.0\.0\.1:\d+ \(pid \d+\) and stays after this command\.\n$/,
  );
  assertEquals(await place.ensure("serve"), { started: false, said: "" });

  const log = hiveLogPath(place.home);
  assertEquals(((await Deno.stat(log)).mode ?? 0) & 0o777, 0o600);
  assertMatch(await Deno.readTextFile(log), /pid (\d+) of session \1/);
});

Deno.test("two keepers that start a hive at the same time end up with one", async () => {
  await using place = await freshHome();
  const both = await Promise.all([place.ensure("serve"), place.ensure("serve")]);
  assertEquals(both.map(({ started }) => started), [true, true]);
  const ready = both.map(({ said }) => said.match(/ready at (\S+)/)?.[1]);
  assertEquals(ready[0], ready[1]);
});

Deno.test("a hive that does not start is an error with the end of this start's log", async () => {
  await using place = await freshHome();
  await Deno.mkdir(`${place.home}/logs`);
  await Deno.writeTextFile(hiveLogPath(place.home), "from last week\n");
  const error = await assertRejects(() => place.ensure("fail"), RbeeError, "did not start");
  assertEquals((error.details.log_tail as string[]).slice(1), ["the disk is made of cheese"]);
});

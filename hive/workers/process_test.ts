import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { eventually } from "../../tests/helpers/eventually.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { systemClock } from "../../daemon/clock.ts";
import { cutLog } from "../logs/log_file.ts";
import { processIdentity } from "../../home/process_identity.ts";
import { attachProcess, launchProcess, tailLog } from "./process.ts";

const PATH = { PATH: "/usr/bin:/bin" };

function launchShell(script: string, logPath: string) {
  return launchProcess({ command: ["/bin/sh"], args: ["-c", script], env: PATH, logPath });
}

async function isAlive(pid: number): Promise<boolean> {
  return await processIdentity(pid) !== undefined;
}

Deno.test("a process's end is told with its exit code, and what it said is in a private log", async () => {
  await using home = await tempHome();
  const logPath = join(home.path, "x.log");
  const process = launchShell("echo out; echo err >&2; exit 7", logPath);
  assertEquals(await process.exited, { code: 7, signal: null });
  assertEquals(await tailLog(logPath), ["out", "err"]);
  assertEquals((await Deno.stat(logPath)).mode! & 0o777, 0o600);
});

Deno.test("a kill reaches the whole group", async () => {
  await using home = await tempHome();
  const logPath = join(home.path, "x.log");
  const process = launchShell("sleep 60 & echo $!; wait", logPath);
  const [child] = await eventually("the child's pid", async () => {
    const lines = await tailLog(logPath);
    return lines.length === 1 && lines.map(Number);
  });
  assert(await isAlive(child));
  await process.kill("SIGTERM");
  assertEquals((await process.exited).signal, "SIGTERM");
  await eventually("the child's end", async () => !await isAlive(child));
});

Deno.test("what a process leaves behind is killed when it ends", async () => {
  await using home = await tempHome();
  const logPath = join(home.path, "x.log");
  const process = launchShell("sleep 60 & echo $!; exit 0", logPath);
  await process.exited;
  const child = Number((await tailLog(logPath))[0]);
  await eventually("the child's end", async () => !await isAlive(child));
});

Deno.test("nothing but the given environment is passed on", async () => {
  await using home = await tempHome();
  const logPath = join(home.path, "x.log");
  const process = launchProcess({ command: ["/usr/bin/env"], args: [], env: { ...PATH, A: "b" }, logPath });
  await process.exited;
  assertEquals((await tailLog(logPath)).sort(), ["A=b", "PATH=/usr/bin:/bin"]);
});

Deno.test("a program that is not there is an error at once", async () => {
  await using home = await tempHome();
  const options = {
    command: [join(home.path, "nothing")],
    args: [],
    env: {},
    logPath: join(home.path, "x.log"),
  };
  assertThrows(() => launchProcess(options), Error, "not there");
});

Deno.test("killing a process that is over does nothing", async () => {
  await using home = await tempHome();
  const process = launchShell("exit 0", join(home.path, "x.log"));
  await process.exited;
  await process.kill("SIGKILL");
});

Deno.test("an identity is that of one process and of no other", async () => {
  await using home = await tempHome();
  const process = launchShell("sleep 60", join(home.path, "x.log"));
  const identity = await processIdentity(process.pid);
  assertEquals(await processIdentity(process.pid), identity);
  assertNotEquals(await processIdentity(Deno.pid), identity);
  await process.kill("SIGKILL");
  await process.exited;
  assertEquals(await processIdentity(process.pid), undefined);
});

Deno.test("a process of somebody else is attached to by pid and identity, killed, and its end noticed", async () => {
  await using home = await tempHome();
  const process = launchShell("sleep 60", join(home.path, "x.log"));
  const identity = (await processIdentity(process.pid))!;
  const clock = systemClock;
  assertEquals(await attachProcess(process.pid, { identity: "another boot/1", clock }), undefined);
  assertEquals(await attachProcess(process.pid, { identity: "", clock }), undefined);
  const attached = (await attachProcess(process.pid, { identity, clock }))!;
  await attached.kill("SIGKILL");
  assertEquals(await attached.exited, { code: null, signal: null });
  await process.exited;
  assertEquals(await attachProcess(process.pid, { identity, clock }), undefined);
});

Deno.test("the tail of a log is bounded in lines and bytes", async () => {
  await using home = await tempHome();
  const path = join(home.path, "x.log");
  assertEquals(await tailLog(path), []);
  const lines = Array.from({ length: 100_000 }, (_, i) => `line ${i}`);
  await Deno.writeTextFile(path, lines.join("\n") + "\n");
  assertEquals(await tailLog(path), lines.slice(-50));
  await cutLog(path, 0);
  await Deno.writeTextFile(path, "after the cut\n");
  assertEquals(await tailLog(path), [...lines.slice(-49), "after the cut"]);
  await Deno.writeTextFile(path, "x".repeat(10_000_000));
  assert((await tailLog(path)).join("").length <= 4_000);
});

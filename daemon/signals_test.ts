import { assert, assertEquals } from "@std/assert";

const CONFIG = new URL("../deno.json", import.meta.url).pathname;
const MODULES = ["./lifecycle.ts", "./log.ts"].map((name) => new URL(name, import.meta.url).href);

/** A process that waits for its shutdown with the given step; its log comes line by line. */
function daemon(step: string, { before = "", after = "", options = "" } = {}) {
  const program = `
    import { untilShutdown } from ${JSON.stringify(MODULES[0])};
    import { createLogger } from ${JSON.stringify(MODULES[1])};
    const log = createLogger({ part: "child", level: "info", format: "json" });
    ${before}
    const leaving = untilShutdown([{ name: "step", timeoutMs: 600_000, run: ${step} }], { log, ${options} });
    log.info("ready");
    Deno.exitCode = await leaving;
    ${after}
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "-q", "--no-check", "--config", CONFIG, program],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const reader = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const messages = () =>
    text.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line).message);
  return {
    kill: (signal: Deno.Signal) => child.kill(signal),
    /** Reads the log up to a message. */
    async logs(message: string) {
      while (!text.endsWith("\n") || !messages().includes(message)) {
        const { done, value } = await reader.read();
        if (done) throw new Error(`The daemon ended without "${message}": ${text}`);
        text += value;
      }
    },
    /** Everything logged, once it has ended, and how it ended. */
    async ended() {
      for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value;
      return { status: await child.status, messages: messages() };
    },
  };
}

Deno.test("each signal to leave runs the steps, and then the process ends by itself with code 0", async () => {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    const child = daemon(`() => log.info("step ran")`);
    await child.logs("ready");
    child.kill(signal);
    const { status, messages } = await child.ended();
    assertEquals(messages, ["ready", "shutting down", "step ran", "stopped"]);
    assertEquals([status.code, status.signal], [0, null]);
  }
});

Deno.test("a daemon that reloads at SIGHUP stays, unless it says that its terminal is gone", async () => {
  const reloads = `onHangup: () => { log.info("hung up"); return gone++ === 1 ? "leave" : "stay"; }`;
  const child = daemon(`() => {}`, { before: "let gone = 0;", options: reloads });
  await child.logs("ready");
  child.kill("SIGHUP");
  await child.logs("hung up");
  child.kill("SIGHUP");
  const { status, messages } = await child.ended();
  assertEquals(messages, ["ready", "hung up", "hung up", "shutting down", "stopped"]);
  assertEquals([status.code, status.signal], [0, null]);
});

Deno.test("a second signal, of either kind, ends the process at once", async () => {
  for (const second of ["SIGTERM", "SIGINT"] as const) {
    const child = daemon(
      `() => { log.info("step hangs"); return new Promise((end) => setTimeout(end, 600_000)); }`,
    );
    await child.logs("ready");
    child.kill("SIGTERM");
    await child.logs("step hangs");
    child.kill(second);
    const { status, messages } = await child.ended();
    assertEquals(status.code, 1);
    assert(!messages.includes("stopped"));
  }
});

Deno.test("once the steps are over, a signal does what signals do", async () => {
  const child = daemon(
    `() => {}`,
    { after: `log.info("after"); await new Promise((end) => setTimeout(end, 600_000));` },
  );
  await child.logs("ready");
  child.kill("SIGTERM");
  await child.logs("after");
  child.kill("SIGTERM");
  assertEquals((await child.ended()).status.signal, "SIGTERM");
});

Deno.test("a hand-over is told before the first step and by the exit code, once", async () => {
  const options = `onHandOver: () => log.info("hand-over")`;
  const child = daemon(
    `() => { log.info("step hangs"); return new Promise((end) => setTimeout(end, 600_000)); }`,
    { options },
  );
  await child.logs("ready");
  child.kill("SIGUSR1");
  await child.logs("step hangs");
  child.kill("SIGUSR1");
  child.kill("SIGTERM");
  const hurried = await child.ended();
  assertEquals([hurried.status.code, hurried.messages], [1, [
    "ready",
    "hand-over",
    "shutting down",
    "step hangs",
  ]]);

  const other = daemon(`() => log.info("step ran")`, { options });
  await other.logs("ready");
  other.kill("SIGUSR1");
  const { status, messages } = await other.ended();
  assertEquals([status.code, messages], [75, ["ready", "hand-over", "shutting down", "step ran", "stopped"]]);
});

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../protocol/errors.ts";
import { createLogger, isJournal, LOG_LEVELS, type LogFields, type LoggerOptions } from "./log.ts";

/** What a log of this kind writes. */
function written(
  options: Partial<LoggerOptions>,
  use: (log: ReturnType<typeof createLogger>) => void,
): string[] {
  const lines: string[] = [];
  use(
    createLogger({
      part: "test",
      level: "debug",
      format: "json",
      write: (line) => lines.push(line),
      ...options,
    }),
  );
  return lines;
}

const asJson = (fields: LogFields) => JSON.parse(written({}, (log) => log.info("m", fields))[0]);
const asText = (fields: LogFields) =>
  written({ format: "text" }, (log) => log.info("m", fields))[0].split("test: ")[1];

Deno.test("a level lets itself and everything worse through", () => {
  for (const [at, level] of LOG_LEVELS.entries()) {
    const lines = written({ level }, (log) => LOG_LEVELS.forEach((each) => log[each](each)));
    assertEquals(lines.map((line) => JSON.parse(line).level), LOG_LEVELS.slice(0, at + 1));
  }
});

Deno.test("a line of JSON has time, level, part and message, and the fields beside them", () => {
  const { time, ...rest } = asJson({ port: 9200, nested: { a: [1, null] }, none: undefined });
  assertMatch(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assertEquals(rest, { level: "info", part: "test", message: "m", port: 9200, nested: { a: [1, null] } });
});

Deno.test("a line of text is readable, and its fields are names and values", () => {
  const [line] = written(
    { format: "text" },
    (log) => log.warn("it happened", { port: 1, url: "http://x?a=b", no: undefined }),
  );
  assertMatch(line, /^\S+Z WARN {2}test: it happened port=1 url=http:\/\/x\?a=b$/);
});

Deno.test("a child's fields stand on each of its lines, and a line's own go before them", () => {
  const lines = written({}, (log) => {
    const child = log.child({ correlation_id: "c1" }).child({ worker: "w1" });
    child.info("m");
    child.info("m", { worker: "w2" });
    log.info("m");
  }).map((line) => JSON.parse(line));
  assertEquals(lines.map(({ correlation_id, worker }) => [correlation_id, worker]), [
    ["c1", "w1"],
    ["c1", "w2"],
    [undefined, undefined],
  ]);
});

Deno.test("an error is logged with its stack, its code and the whole chain of its causes", () => {
  const root = new TypeError("root");
  const error = new RbeeError("WORKER_CRASHED", "outer", { cause: new Error("middle", { cause: root }) });
  const logged = asJson({ error }).error;
  assertEquals([logged.name, logged.code, logged.message], ["RbeeError", "WORKER_CRASHED", "outer"]);
  assertStringIncludes(logged.stack, "log_test.ts");
  assertEquals([logged.cause.message, logged.cause.cause.name, logged.cause.cause.message], [
    "middle",
    "TypeError",
    "root",
  ]);
  assertStringIncludes(asText({ error }), "middle");
  assertEquals(asJson({ errors: [{ error: new Error("deep") }] }).errors[0].error.message, "deep");
});

Deno.test("foreign text can't begin a new line or move the terminal, in either format", () => {
  const hostile = "x\n2026-01-01T00:00:00.000Z ERROR fake: line\u001b[2J\u009b31m\u202e";
  for (const format of ["json", "text"] as const) {
    const lines = written({ format }, (log) => log.info("m", { hostile, nested: { hostile } }));
    assertEquals(lines.length, 1);
    assert(!lines[0].includes("\n") && !lines[0].includes("\u001b"), lines[0]);
  }
  assert(!/[\p{Cc}\u202e]/u.test(asText({ hostile })));
  assertEquals(
    asText({ plain: "a-b/c:d=e", spaced: "a b", empty: "", quoted: 'a"b' }),
    'm plain=a-b/c:d=e spaced="a b" empty="" quoted="a\\"b"',
  );
});

Deno.test("nothing of a line, names and message included, can begin a new one or move the terminal, in any format", () => {
  const hostile = fc.array(
    fc.oneof(
      fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
      fc.integer({ min: 0, max: 0x9f }).map((unit) => String.fromCharCode(unit)),
      fc.constantFrom("\x1b]52;c;eA==\x07", "\n<3>forged", "\u2028", "\u202e", "\u{e0041}", "\ud800"),
    ),
    { maxLength: 20 },
  ).map((parts) => parts.join(""));
  fc.assert(fc.property(hostile, (text) => {
    for (const format of ["json", "text", "journal"] as const) {
      const kept: string[] = [];
      const lines = written({ format, alsoTo: (line) => kept.push(line) }, (log) => {
        log.child({ [text]: 1 }).error(text, { text, nested: [{ [text]: text }], error: new Error(text) });
      });
      for (const line of [...lines, ...kept]) {
        assert(!/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u.test(line), JSON.stringify(line));
      }
      assertEquals([lines.length, JSON.parse(kept[0]).message], [
        1,
        text.toWellFormed() === text ? text : JSON.parse(kept[0]).message,
      ]);
    }
  }));
});

Deno.test("what can't be logged as it is never makes logging fail", () => {
  const loop: Record<string, unknown> = { name: "loop" };
  loop.self = loop;
  const errorLoop = new Error("first");
  errorLoop.cause = new Error("second", { cause: errorLoop });
  const trap = Object.defineProperty({}, "x", {
    enumerable: true,
    get() {
      throw new Error("trap");
    },
  });
  let deep: unknown = "bottom";
  for (let i = 0; i < 10_000; i++) deep = [deep];
  for (const format of ["json", "text"] as const) {
    const lines = written({ format }, (log) => {
      log.info("big", { n: 12345678901234567890n });
      log.info("loop", { loop, errorLoop });
      log.info("trap", { trap });
      log.info("deep", { deep });
      log.info("odd", { f: () => 1, s: Symbol("x"), nan: NaN, date: new Date(0), bad: new Date(NaN) });
    });
    assertEquals(lines.length, 5);
    assertStringIncludes(lines[0], "12345678901234567890");
    assertStringIncludes(lines[1], "second");
    assertStringIncludes(lines[3], "…");
    assert(lines[3].length < 300, `${lines[3].length} characters`);
    assertStringIncludes(lines[4], "1970-01-01T00:00:00.000Z");
  }
});

Deno.test("things that all point to each other are followed once each", () => {
  const all: Record<string, unknown>[] = Array.from({ length: 30 }, (_, i) => ({ [`thing${i}`]: true }));
  for (const each of all) each.others = all;
  const started = performance.now();
  for (const format of ["json", "text"] as const) {
    const [line] = written({ format }, (log) => log.info("m", { all }));
    assertStringIncludes(line, "thing29");
    assert(line.length < 5000, `${line.length} characters`);
  }
  assert(performance.now() - started < 1000, `${performance.now() - started} ms`);
});

Deno.test("whatever the fields, a line of JSON is one line of JSON with its own words", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.anything({ withBigInt: true, withDate: true, withMap: true })),
      (fields) => {
        for (const name of ["time", "level", "part", "message"]) delete fields[name];
        const lines = written({}, (log) => log.error("constant", fields));
        assertEquals(lines.length, 1);
        assert(!lines[0].includes("\n"));
        assertEquals(JSON.parse(lines[0]).message, "constant");
      },
    ),
  );
});

/** Runs a program with a log to stderr and gives both its outputs. */
async function run(use: string, stderr: "piped" | "closed") {
  const config = new URL("../deno.json", import.meta.url).pathname;
  const module = new URL("./log.ts", import.meta.url).href;
  const program = `
    import { createLogger } from ${JSON.stringify(module)};
    const log = createLogger({ part: "child", level: "info", format: "auto" });
    await Deno.stdin.read(new Uint8Array(1));
    ${use}
    console.log("went on");`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "-q", "--no-check", "--config", config, program],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  if (stderr === "closed") await child.stderr.cancel();
  const logged = stderr === "piped" ? new Response(child.stderr).text() : Promise.resolve("");
  const writer = child.stdin.getWriter();
  await writer.write(new Uint8Array([10]));
  await writer.close();
  const [out, log, { code }] = await Promise.all([new Response(child.stdout).text(), logged, child.status]);
  return { out, log, code };
}

Deno.test("where there is no terminal, lines are JSON on stderr, long ones whole", async () => {
  const { out, log, code } = await run(
    `log.info("m", { long: "x".repeat(300_000) }); log.info("next");`,
    "piped",
  );
  assertEquals([out, code], ["went on\n", 0]);
  const lines = log.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.map(({ message }) => message), ["m", "next"]);
  assertEquals(lines[0].long.length, 300_000);
});

Deno.test("a log that nobody reads any more does not stop the program", async () => {
  const { out, code } = await run(`log.error("nobody hears this"); log.error("nor this");`, "closed");
  assertEquals([out, code], ["went on\n", 0]);
});

Deno.test("for the journal a line has its priority and one line, and leaves out what the journal knows", () => {
  const lines: string[] = [];
  const log = createLogger({
    part: "p",
    level: "debug",
    format: "journal",
    write: (line) => void lines.push(line),
  });
  log.error("broken", { why: "two\nlines" });
  log.warn("odd", { n: 1 });
  log.info("fine");
  log.debug("detail");
  assertEquals(lines, ['<3>broken why="two\\nlines"', "<4>odd n=1", "<6>fine", "<7>detail"]);
});

Deno.test("only the stderr that JOURNAL_STREAM names is the journal", () => {
  const stderr = () => ({ dev: 8, ino: 42 });
  assertEquals(["8:42", "8:43", "", undefined].map((stream) => isJournal(stream, stderr)), [
    true,
    false,
    false,
    false,
  ]);
});

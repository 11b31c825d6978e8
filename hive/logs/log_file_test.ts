import { assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { join } from "@std/path";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { LOG_LINE_MAX_CHARS, LOG_READ_MAX_BYTES } from "../limits.ts";
import { cutLog, LogFile, rotatedPath } from "./log_file.ts";

/** A log, who reads it, and how to write on. */
async function logFile() {
  const home = await tempHome();
  const path = join(home.path, "worker.log");
  const read: string[] = [];
  const writer = await Deno.open(path, { append: true, create: true });
  return {
    ...{ path, read },
    file: new LogFile(path, (line) => read.push(line)),
    write(bytes: Uint8Array | string) {
      let rest = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
      while (rest.length > 0) rest = rest.subarray(writer.writeSync(rest));
    },
    async [Symbol.asyncDispose]() {
      writer.close();
      await home[Symbol.asyncDispose]();
    },
  };
}

Deno.test("every line is read once and whole, wherever the writer pauses and whenever the file is cut", async () => {
  const text = fc.array(fc.constantFrom("a", "é", "日", "🐝", " ", "{"), { minLength: 1, maxLength: 12 })
    .map((parts) => parts.join(""));
  const lines = fc.array(fc.tuple(text, fc.constantFrom("\n", "\r\n")), { maxLength: 30 });
  const steps = fc.array(
    fc.tuple(fc.integer({ min: 1, max: 40 }), fc.constantFrom("read", "rotate", "none")),
    {
      minLength: 1,
      maxLength: 12,
    },
  );
  await fc.assert(
    fc.asyncProperty(lines, steps, async (lines, steps) => {
      await using log = await logFile();
      const bytes = new TextEncoder().encode(lines.map((parts) => parts.join("")).join(""));
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const [size, then] = steps[turn % steps.length];
        log.write(bytes.subarray(at, at += size));
        if (then === "read") await log.file.catchUp();
        if (then === "rotate") await log.file.rotate(20);
      }
      await log.file.finish();
      assertEquals(log.read, lines.map(([text]) => text));
    }),
    { numRuns: 60 },
  );
});

Deno.test("a cut log starts anew, and what it held lies beside it for its owner alone", async () => {
  await using log = await logFile();
  await Deno.chmod(log.path, 0o600);
  log.write("one\n");
  assertEquals(await cutLog(log.path, 4), false);
  log.write("two\n");
  assertEquals(await cutLog(log.path, 4), true);
  log.write("three\n");
  assertEquals(await Deno.readTextFile(rotatedPath(log.path)), "one\ntwo\n");
  assertEquals(await Deno.readTextFile(log.path), "three\n");
  assertEquals((await Deno.stat(rotatedPath(log.path))).mode! & 0o777, 0o600);
});

Deno.test("a log whose content can't be kept is emptied all the same", async () => {
  await using log = await logFile();
  log.write("more than fits\n");
  await Deno.mkdir(rotatedPath(log.path));
  await assertRejects(() => log.file.rotate(4));
  assertEquals((await Deno.stat(log.path)).size, 0);
  log.write("next\n");
  await log.file.catchUp();
  assertEquals(log.read.at(-1), "next");
});

Deno.test("a line beyond all bounds is cut, and the next one is whole", async () => {
  await using log = await logFile();
  for (let part = 0; part < 3; part++) {
    log.write("x".repeat(LOG_LINE_MAX_CHARS / 2 + 1));
    await log.file.catchUp();
  }
  log.write("y\nnext\n");
  await log.file.catchUp();
  assertEquals(log.read, ["x".repeat(LOG_LINE_MAX_CHARS), "next"]);
});

Deno.test("of very much at once only the end is read", async () => {
  await using log = await logFile();
  const line = `${"x".repeat(999)}\n`;
  log.write(line.repeat(LOG_READ_MAX_BYTES / 1000 + 500));
  await log.file.catchUp();
  assertEquals(log.read.length, Math.ceil(LOG_READ_MAX_BYTES / 1000));
  assertEquals(log.read[0].startsWith("[…] x"), true);
});

Deno.test("a file that is not there is an empty one", async () => {
  await using log = await logFile();
  const absent = new LogFile(`${log.path}.absent`, (line) => log.read.push(line));
  await absent.finish();
  assertEquals([log.read, await absent.rotate(0)], [[], false]);
});

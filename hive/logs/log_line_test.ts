import { assertEquals } from "@std/assert";
import { LogLine } from "../../protocol/hive_schemas.ts";
import { LOG_LINE_MAX_CHARS } from "../limits.ts";
import { readLogLine } from "./log_line.ts";

const NOW_MS = Date.UTC(2030, 0, 1);
const fromWorker = { source: "worker", workerId: "abc", nowMs: NOW_MS } as const;

Deno.test("a line of the log comes apart, and text that is none stays as it is", () => {
  const cases: [text: string, message: string, fields: Record<string, unknown>][] = [
    [
      '{"time":"2029-12-31T23:59:59.5Z","level":"warn","part":"llm-worker-rbee","message":"hm","worker_id":"zzz","a":{"b":1}}',
      "hm",
      { a: { b: 1 } },
    ],
    ["ggml_cuda_init: found 1 device", "ggml_cuda_init: found 1 device", {}],
    ['{"time":"soon","message":"no time"}', '{"time":"soon","message":"no time"}', {}],
    ["{ not JSON", "{ not JSON", {}],
    ["null", "null", {}],
  ];
  for (const [text, message, fields] of cases) {
    const line = LogLine.parse(readLogLine(text, fromWorker));
    assertEquals([line.message, line.fields, line.source, line.worker_id], [
      message,
      fields,
      "worker",
      "abc",
    ]);
  }
  assertEquals(readLogLine(cases[0][0], fromWorker).time, "2029-12-31T23:59:59.5Z");
  assertEquals(readLogLine(cases[1][0], fromWorker).time, "2030-01-01T00:00:00.000Z");
  assertEquals(readLogLine(cases[0][0], fromWorker).level, "warn");
});

Deno.test("what the hive says of a worker is that worker's, and a level nobody knows is none", () => {
  const text = '{"time":"2030-01-01T00:00:00Z","level":"fatal","message":"gone","worker_id":"abc"}';
  const line = readLogLine(text, { source: "hive", nowMs: NOW_MS });
  assertEquals([line.worker_id, line.level, line.fields], ["abc", undefined, {}]);
});

Deno.test("no line is longer than it may be", () => {
  const long = "x".repeat(LOG_LINE_MAX_CHARS + 1);
  assertEquals(readLogLine(long, fromWorker).message.length, LOG_LINE_MAX_CHARS + 1);
  const text = JSON.stringify({ time: "2030-01-01T00:00:00Z", level: "info", message: "big", long });
  assertEquals(readLogLine(text, fromWorker).fields, {});
});

// A log that is kept instead of written, for tests of what is logged and of what is not.

import { createLogger, type Logger } from "../../daemon/log.ts";

/** One line as it was logged, parsed. */
export type LogLine = Record<string, unknown> & { level: string; message: string };

/** A log at its most talkative; `lines` grows as it is written to, `text` is all of it as written. */
export function keptLog(): { log: Logger; lines: LogLine[]; text: () => string } {
  const lines: LogLine[] = [];
  const written: string[] = [];
  const write = (line: string) => {
    written.push(line);
    lines.push(JSON.parse(line));
  };
  const log = createLogger({ part: "test", level: "debug", format: "json", write });
  return { log, lines, text: () => written.join("\n") };
}

/** Lines as programs write them, turned into what the wire has. */
import type { LogLine } from "../../protocol/hive_schemas.ts";
import { LogLevelName } from "../../protocol/hive_schemas.ts";
import { LOG_LINE_MAX_CHARS } from "../limits.ts";

/** Where a line comes from, and when it was seen. */
export interface LineOrigin {
  source: LogLine["source"];
  /** Of the worker that wrote it. */
  workerId?: string;
  /** The time of lines that tell none. */
  nowMs: number;
}

/**
 * One line. JSON as `daemon/log.ts` writes it comes apart into time, level, message and fields; anything else, such as
 * what a library prints, is a message as it stands.
 */
export function readLogLine(text: string, origin: LineOrigin): LogLine {
  const about = { source: origin.source, worker_id: origin.workerId };
  const written = parsed(text);
  if (written === undefined) return { time: iso(origin.nowMs), ...about, message: shorten(text), fields: {} };
  const { time, level, message, part: _part, worker_id, ...fields } = written;
  return {
    time,
    ...about,
    // What the hive says of a worker is that worker's as well.
    worker_id: origin.workerId ?? (typeof worker_id === "string" ? worker_id : undefined),
    level: LogLevelName.safeParse(level).data,
    message: shorten(message),
    fields: JSON.stringify(fields).length > LOG_LINE_MAX_CHARS ? {} : fields,
  };
}

type Written = { time: string; message: string } & Record<string, unknown>;

function parsed(text: string): Written | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    const line = JSON.parse(text) as Partial<Written>;
    const known = typeof line.message === "string" && typeof line.time === "string" &&
      !Number.isNaN(Date.parse(line.time));
    return known ? line as Written : undefined;
  } catch {
    return undefined;
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

function shorten(text: string): string {
  return text.length > LOG_LINE_MAX_CHARS ? `${text.slice(0, LOG_LINE_MAX_CHARS)}…` : text;
}

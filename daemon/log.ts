/** Structured log lines on stderr: a constant message, fields beside it, the correlation id always. */
import { fstatSync, statSync } from "node:fs";
import { printable } from "../protocol/printable.ts";

/** Severities, worst first. */
export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
/** See {@linkcode LOG_LEVELS}. */
export type LogLevel = typeof LOG_LEVELS[number];
/** Values beside the message. Errors are written with their chain of causes. */
export type LogFields = Record<string, unknown>;

/** Writes log lines. */
export interface Logger {
  /** A defect, or a failure that somebody must look at. */
  error(message: string, fields?: LogFields): void;
  /** Something went wrong and was dealt with. */
  warn(message: string, fields?: LogFields): void;
  /** Something happened. */
  info(message: string, fields?: LogFields): void;
  /** Of interest while looking for a fault. */
  debug(message: string, fields?: LogFields): void;
  /** The same log with fields that every line carries. */
  child(fields: LogFields): Logger;
}

/** Options of {@linkcode createLogger}. */
export interface LoggerOptions {
  /** Which program writes. */
  part: string;
  /** Least severe level that is written. */
  level: LogLevel;
  /** `auto`: text on a terminal, `journal` where stderr is systemd's journal, JSON elsewhere. */
  format: "auto" | "json" | "text" | "journal";
  /** Where lines go; default: stderr. */
  write?: (line: string) => void;
  /** Told of each line as well, as JSON whatever the format. */
  alsoTo?: (json: string) => void;
}

const encoder = new TextEncoder();
const STDERR = 2;
/** syslog(3). */
const PRIORITIES: Record<LogLevel, number> = { error: 3, warn: 4, info: 6, debug: 7 };
/** Objects within objects that are followed. */
const MAX_FIELD_DEPTH = 8;
/** Needs no quotes in a line of text. */
const PLAIN = /^[^\s"\p{C}]+$/u;

/** Creates the log of one program. Logging never throws: whatever is logged is already trouble enough. */
export function createLogger(options: LoggerOptions): Logger {
  const write = options.write ?? writeToStderr;
  const format = options.format === "auto" ? formatOfStderr() : options.format;
  const written = { json: asJson, text: asText, journal: asJournal }[format];
  const threshold = LOG_LEVELS.indexOf(options.level);
  const withFields = (inherited: LogFields): Logger => {
    const at = (level: LogLevel) => (message: string, fields: LogFields = {}) => {
      if (LOG_LEVELS.indexOf(level) > threshold) return;
      const line = {
        time: new Date().toISOString(),
        level,
        part: options.part,
        message,
        ...inherited,
        ...fields,
      };
      // The one place where it leaves. JSON that is escaped once more stays the same JSON.
      const text = printable(written(line));
      write(text);
      options.alsoTo?.(format === "json" ? text : printable(asJson(line)));
    };
    return {
      error: at("error"),
      warn: at("warn"),
      info: at("info"),
      debug: at("debug"),
      child: (fields) => withFields({ ...inherited, ...fields }),
    };
  };
  return withFields({});
}

type Line = { time: string; level: LogLevel; part: string; message: string } & LogFields;

function formatOfStderr(): "json" | "text" | "journal" {
  if (Deno.stderr.isTerminal()) return "text";
  return isJournal(Deno.env.get("JOURNAL_STREAM"), () => fstatSync(STDERR)) ? "journal" : "json";
}

/** Whether `JOURNAL_STREAM` (systemd.exec(5)) names this file: a program may have been given another stderr. */
export function isJournal(stream: string | undefined, stderr: () => { dev: number; ino: number }): boolean {
  if (!stream) return false;
  const { dev, ino } = stderr();
  return stream === `${dev}:${ino}`;
}

/** Whether stderr is this file. */
export function stderrIs(path: string): boolean {
  const file = statSync(path, { throwIfNoEntry: false });
  const stderr = fstatSync(STDERR);
  return file !== undefined && file.dev === stderr.dev && file.ino === stderr.ino;
}

function asText(line: Line): string {
  const { time, level, part, message, ...fields } = line;
  return `${time} ${level.toUpperCase().padEnd(5)} ${part}: ${message}${asPairs(fields)}`;
}

/** One line with its priority as sd-daemon(3) has it; the journal knows time and program itself. */
function asJournal(line: Line): string {
  const { time: _time, level, part: _part, message, ...fields } = line;
  return `<${PRIORITIES[level]}>${message}${asPairs(fields)}`;
}

function asPairs(fields: LogFields): string {
  return Object.entries(fields).filter(([, value]) => value !== undefined)
    .map(([name, value]) =>
      ` ${name}=${typeof value === "string" && PLAIN.test(value) ? value : asJson(value)}`
    ).join("");
}

function asJson(value: unknown): string {
  try {
    return JSON.stringify(plain(value, { depth: 0, seen: new Set() })) ?? String(value);
  } catch (error) {
    return JSON.stringify(`[cannot be logged: ${error}]`);
  }
}

/** What JSON can hold: errors with their chain of causes, no loops, nothing bottomless. */
function plain(value: unknown, at: { depth: number; seen: Set<object> }): unknown {
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null || "toJSON" in value) return value;
  // Once is enough: what points to itself in many ways has no end when it is followed on each of them.
  if (at.seen.has(value) || at.depth === MAX_FIELD_DEPTH) return "[…]";
  at.seen.add(value);
  const inside = (field: unknown) => plain(field, { ...at, depth: at.depth + 1 });
  if (Array.isArray(value)) return value.map(inside);
  const shown = value instanceof Error
    ? {
      name: value.name,
      message: value.message,
      code: "code" in value ? value.code : undefined,
      stack: value.stack,
      cause: value.cause,
    }
    : value;
  return Object.fromEntries(Object.entries(shown).map(([key, field]) => [key, inside(field)]));
}

function writeToStderr(line: string): void {
  let rest = encoder.encode(line + "\n");
  try {
    while (rest.length > 0) rest = rest.subarray(Deno.stderr.writeSync(rest));
  } catch {
    // Whoever was reading has gone, and there is nobody left to tell.
  }
}

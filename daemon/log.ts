/** Structured log lines on stderr: a constant message, fields beside it, the correlation id always. */

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
  /** `auto`: text on a terminal, JSON elsewhere. */
  format: "auto" | "json" | "text";
  /** Where lines go; default: stderr. */
  write?: (line: string) => void;
}

const encoder = new TextEncoder();

/** Creates the log of one program. */
export function createLogger(options: LoggerOptions): Logger {
  const write = options.write ?? ((line) => void Deno.stderr.writeSync(encoder.encode(line + "\n")));
  const json = options.format === "json" || (options.format === "auto" && !Deno.stderr.isTerminal());
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
      write(json ? JSON.stringify(line, plainError) : asText(line));
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

function asText(line: { time: string; level: LogLevel; part: string; message: string } & LogFields): string {
  const { time, level, part, message, ...fields } = line;
  const rest = Object.entries(fields).filter(([, value]) => value !== undefined)
    .map(([name, value]) =>
      ` ${name}=${typeof value === "string" ? value : JSON.stringify(value, plainError)}`
    );
  return `${time} ${level.toUpperCase().padEnd(5)} ${part}: ${message}${rest.join("")}`;
}

function plainError(_key: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  return { name: value.name, message: value.message, stack: value.stack, cause: value.cause };
}

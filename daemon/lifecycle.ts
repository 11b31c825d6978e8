/** A daemon's life: bind, serve, and leave in order and in bounded time. */
import type { ListenAddress } from "../home/config_schema.ts";
import { correlationIdOf, newCorrelationId } from "../protocol/correlation.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import { Connections } from "./connections.ts";
import { SERVER_DRAIN_TIMEOUT_MS, SHUTDOWN_TIMEOUT_MS } from "./limits.ts";
import type { Logger } from "./log.ts";
import { type App, errorResponse } from "./serve.ts";

/** What tells a daemon to leave for good. */
const LEAVE_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** One step of leaving. Steps run one after the other; one that fails or is late does not stop the next. */
export interface ShutdownStep {
  /** For the log. */
  name: string;
  /** Longest time given to it, in ms. */
  timeoutMs: number;
  /** Does it; should heed the signal, which aborts when the time is over. */
  run: (signal: AbortSignal) => void | Promise<void>;
}

/** Options of {@linkcode startServer}. */
export interface ServerOptions {
  /** Where to listen. */
  listen: ListenAddress;
  /** Where answers that failed are logged. */
  log: Logger;
  /** Overrides {@linkcode SERVER_DRAIN_TIMEOUT_MS}. */
  drainTimeoutMs?: number;
}

/** A running HTTP server. */
export interface RunningServer {
  /** The bound address. */
  address: ListenAddress;
  /** Refuses what comes (`SHUTTING_DOWN`), gives open answers a moment, then cuts them. Idempotent. */
  close(): Promise<void>;
}

/**
 * Binds and serves.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the address is taken or not this machine's.
 */
export function startServer(app: App, options: ServerOptions): RunningServer {
  const { listen, log, drainTimeoutMs = SERVER_DRAIN_TIMEOUT_MS } = options;
  const answers = openAnswers();
  let closed: Promise<void> | undefined;
  let listener: Deno.TcpListener;
  try {
    listener = Deno.listen(listen);
  } catch (error) {
    const where = `${listen.hostname}:${listen.port}`;
    if (error instanceof Deno.errors.AddrInUse) {
      throw new RbeeError("INVALID_REQUEST", `${where} is in use by another program. Choose another port.`, {
        cause: error,
      });
    }
    throw new RbeeError("INVALID_REQUEST", `Cannot listen on ${where}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const { hostname, port } = listener.addr as Deno.NetAddr;
  const connections = new Connections(listener, {
    log,
    answer: (request, { completed }) => {
      if (closed !== undefined) return Promise.resolve(refuse(request));
      answers.add(completed);
      return app(request, completed);
    },
    onError: (error) => {
      const correlationId = newCorrelationId();
      log.error("answer failed", { correlation_id: correlationId, error });
      return errorResponse(toRbeeError(error), { correlationId });
    },
  });
  return {
    address: { hostname, port },
    close() {
      return closed ??= (async () => {
        const done = await settlesWithin(answers.allDone(), drainTimeoutMs);
        // All may be handed to the system and yet not be on their way: a cut would lose the rest of them.
        await connections.close(done ? drainTimeoutMs : 0);
      })();
    },
  };
}

/** Counts the answers that are still being made or sent. */
function openAnswers() {
  const open = new Set<Promise<void>>();
  return {
    add(completed: Promise<void>) {
      // It rejects when the caller went away; then there is nothing left to send.
      const sent = completed.catch(() => {}).finally(() => open.delete(sent));
      open.add(sent);
    },
    /** Settles when none is open any more. */
    allDone: () => Promise.all(open),
  };
}

async function settlesWithin(work: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), timeoutMs);
  try {
    return await Promise.race([work.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function refuse(request: Request): Response {
  const error = new RbeeError("SHUTTING_DOWN", "This daemon is shutting down. Try again once it is back.");
  const response = errorResponse(error, { correlationId: correlationIdOf(request.headers) });
  response.headers.set("Connection", "close");
  return response;
}

/** Runs the steps of a shutdown in order, each within its time, all within `timeoutMs`. */
export async function runShutdown(
  steps: readonly ShutdownStep[],
  log: Logger,
  options: { timeoutMs: number } = { timeoutMs: SHUTDOWN_TIMEOUT_MS },
): Promise<void> {
  const deadlineMs = performance.now() + options.timeoutMs;
  for (const step of steps) {
    const limitMs = Math.max(0, Math.min(step.timeoutMs, deadlineMs - performance.now()));
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(tooLate(limitMs)), limitMs);
    try {
      await Promise.race([step.run(limit.signal), rejectOnAbort(limit.signal)]);
    } catch (error) {
      log.warn("shutdown step did not finish", { step: step.name, error });
    } finally {
      clearTimeout(timer);
    }
  }
}

function tooLate(limitMs: number): DOMException {
  return new DOMException(`It took longer than ${Math.round(limitMs)} ms.`, "TimeoutError");
}

/** Options of {@linkcode untilShutdown}. */
export interface UntilShutdownOptions {
  /** Told what happens. */
  log: Logger;
  /** Settles when the daemon is to leave for another reason than a signal. */
  leave?: Promise<unknown>;
  /** Called before the first step when {@linkcode HAND_OVER_SIGNAL} came; without it that signal does what it does. */
  onHandOver?: () => void;
  /** Called at SIGHUP, and says whether to leave for it; without it that signal asks to leave. */
  onHangup?: () => "leave" | "stay";
}

/** Asks a daemon to make way for its next start. */
export const HAND_OVER_SIGNAL = "SIGUSR1";
/** Exit code of a daemon that wants to be started anew: EX_TEMPFAIL of sysexits(3head). */
export const HAND_OVER_EXIT_CODE = 75;

/**
 * Waits until the process is told to leave (SIGTERM, SIGINT, the end of its terminal, a hand-over, or `leave` settling)
 * and then runs the steps. A second signal leaves at once.
 *
 * @returns the exit code: 1 when `leave` failed, {@linkcode HAND_OVER_EXIT_CODE} after a hand-over, else 0.
 */
export async function untilShutdown(
  steps: readonly ShutdownStep[],
  options: UntilShutdownOptions,
): Promise<number> {
  const { log, onHandOver, onHangup } = options;
  const asked = Promise.withResolvers<string>();
  let exitCode = 0;
  let leaving = false;
  const leaveFor = (reason: string) => {
    if (reason === "SIGHUP" && onHangup !== undefined && (leaving || onHangup() === "stay")) return;
    if (leaving) Deno.exit(1);
    asked.resolve(reason);
  };
  const handOver = () => {
    if (leaving) return;
    exitCode = HAND_OVER_EXIT_CODE;
    onHandOver?.();
    asked.resolve(HAND_OVER_SIGNAL);
  };
  const handlers: [Deno.Signal, () => void][] = LEAVE_SIGNALS.map((name) => [name, () => leaveFor(name)]);
  if (onHandOver !== undefined) handlers.push([HAND_OVER_SIGNAL, handOver]);
  for (const [name, handler] of handlers) Deno.addSignalListener(name, handler);
  options.leave?.then(() => asked.resolve("request"), (error) => {
    exitCode = 1;
    log.error("daemon failed", { error });
    asked.resolve("failure");
  });
  const reason = await asked.promise;
  leaving = true;
  log.info("shutting down", { reason });
  await runShutdown(steps, log);
  for (const [name, handler] of handlers) Deno.removeSignalListener(name, handler);
  log.info("stopped");
  return exitCode;
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

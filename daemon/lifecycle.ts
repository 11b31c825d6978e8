/** A daemon's life: bind, serve, and leave in order and in bounded time. */
import type { ListenAddress } from "../home/config_schema.ts";
import { RbeeError } from "../protocol/errors.ts";
import { SERVER_DRAIN_TIMEOUT_MS, SHUTDOWN_TIMEOUT_MS } from "./limits.ts";
import type { Logger } from "./log.ts";
import type { App } from "./serve.ts";

/** One step of leaving. Steps run one after the other; one that fails or is late does not stop the next. */
export interface ShutdownStep {
  /** For the log. */
  name: string;
  /** Longest time given to it, in ms. */
  timeoutMs: number;
  /** Does it; should heed the signal, which aborts when the time is over. */
  run: (signal: AbortSignal) => void | Promise<void>;
}

/** A running HTTP server. */
export interface RunningServer {
  /** The bound address. */
  address: ListenAddress;
  /** Stops accepting, gives open answers a moment, then cuts them. */
  close(): Promise<void>;
}

/**
 * Binds and serves.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the address is taken or not this machine's.
 */
export function startServer(app: App, options: { listen: ListenAddress; log: Logger }): RunningServer {
  const { listen, log } = options;
  const cut = new AbortController();
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve({
      ...listen,
      signal: cut.signal,
      onListen: () => {},
      onError: (error) => {
        log.error("answer failed", { error });
        return new Response(null, { status: 500 });
      },
    }, app);
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
  return {
    address: { hostname: server.addr.hostname, port: server.addr.port },
    async close() {
      const timer = setTimeout(() => cut.abort(), SERVER_DRAIN_TIMEOUT_MS);
      await server.shutdown();
      clearTimeout(timer);
    },
  };
}

/** Runs the steps of a shutdown in order, each within its time, all within {@linkcode SHUTDOWN_TIMEOUT_MS}. */
export async function runShutdown(steps: readonly ShutdownStep[], log: Logger): Promise<void> {
  const whole = AbortSignal.timeout(SHUTDOWN_TIMEOUT_MS);
  for (const step of steps) {
    const signal = AbortSignal.any([whole, AbortSignal.timeout(step.timeoutMs)]);
    try {
      await Promise.race([Promise.resolve(step.run(signal)), rejectOnAbort(signal)]);
    } catch (error) {
      log.warn("shutdown step did not finish", { step: step.name, error });
    }
  }
}

/**
 * Waits until the process is told to leave (SIGTERM, SIGINT, or `leave` settling) and then runs the steps. A second
 * signal leaves at once.
 *
 * @returns the exit code.
 */
export async function untilShutdown(
  steps: readonly ShutdownStep[],
  options: { log: Logger; leave?: Promise<unknown> },
): Promise<number> {
  const { log } = options;
  const asked = Promise.withResolvers<string>();
  const onSignal = (name: string) => () => {
    if (leaving) Deno.exit(1);
    asked.resolve(name);
  };
  let leaving = false;
  const signals = (["SIGTERM", "SIGINT"] as const).map((name) => [name, onSignal(name)] as const);
  for (const [name, handler] of signals) Deno.addSignalListener(name, handler);
  const reason = await Promise.race([
    asked.promise,
    (options.leave ?? new Promise(() => {})).then(() => "request"),
  ]);
  leaving = true;
  log.info("shutting down", { reason });
  await runShutdown(steps, log);
  for (const [name, handler] of signals) Deno.removeSignalListener(name, handler);
  log.info("stopped");
  return 0;
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Telling systemd how a daemon is (sd_notify(3)), over the socket that the environment names, if it names one. */
import { join } from "@std/path";
import type { Environment } from "../home/paths.ts";
import type { Logger } from "./log.ts";

/** What a daemon tells its service manager. Nothing of it ever throws: a manager that is deaf costs only its own view. */
export interface ServiceManager {
  /** It serves from now on; `status` is one line for `systemctl status`. Starts the watchdog's signs of life. */
  ready(status: string): void;
  /** It is about to leave. */
  stopping(): void;
  /** Nothing more is told. Waits until all has been sent. */
  close(): Promise<void>;
}

/** Signs of life come this many times as often as the watchdog wants them. */
const SIGNS_PER_WATCHDOG = 2;
const MICROSECONDS_PER_MS = 1_000;

/**
 * The service manager of this process. The signs of life come from the event loop, so a daemon whose event loop hangs
 * is restarted. Both variables are read here and passed on to nobody.
 */
export function serviceManager(options: { env: Environment; pid?: number; log: Logger }): ServiceManager {
  const { env, log } = options;
  const socket = env.get("NOTIFY_SOCKET");
  if (!socket) return { ready() {}, stopping() {}, close: () => Promise.resolve() };
  let sending = Promise.resolve();
  let told = false;
  const tell = (...lines: string[]) => {
    sending = sending.then(() => send(socket, lines.join("\n"))).catch((error) => {
      if (!told) log.warn("systemd cannot be told how this daemon is", { socket, error });
      told = true;
    });
  };
  let timer: ReturnType<typeof setInterval> | undefined;
  return {
    ready(status) {
      tell("READY=1", `STATUS=${status.replaceAll("\n", " ")}`);
      const intervalMs = watchdogMs(env, options.pid ?? Deno.pid) / SIGNS_PER_WATCHDOG;
      if (intervalMs > 0) timer = setInterval(() => tell("WATCHDOG=1"), intervalMs);
    },
    stopping() {
      tell("STOPPING=1");
    },
    close() {
      clearInterval(timer);
      return sending;
    },
  };
}

/** Time that may pass between two signs of life; 0 when none are wanted of this process. */
function watchdogMs(env: Environment, pid: number): number {
  const wantedOf = env.get("WATCHDOG_PID");
  if (wantedOf && Number(wantedOf) !== pid) return 0;
  const ms = Number(env.get("WATCHDOG_USEC") ?? 0) / MICROSECONDS_PER_MS;
  return Number.isFinite(ms) ? ms : 0;
}

/** A datagram socket has to have a name of its own to send from. */
async function send(socket: string, message: string): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "rbee-notify-" });
  try {
    const own = Deno.listenDatagram({ transport: "unixpacket", path: join(folder, "own") });
    try {
      await own.send(new TextEncoder().encode(message), { transport: "unixpacket", path: socket });
    } finally {
      own.close();
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

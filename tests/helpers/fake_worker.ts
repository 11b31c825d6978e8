/**
 * A worker program of its own that speaks the real protocol and misbehaves on demand: it takes the flags of
 * `llm-worker-rbee`, loads nothing, and tells the same canned story to everybody. For what a hive, a queen or a keeper
 * must survive.
 */
import { fromFileUrl } from "@std/path";
import { createLogger } from "../../daemon/log.ts";
import { startServer } from "../../daemon/lifecycle.ts";
import type { App } from "../../daemon/serve.ts";
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import type { Device } from "../../protocol/hive_schemas.ts";
import { VERSION } from "../../protocol/version.ts";
import { BackendName } from "../../protocol/spawn_request.ts";
import { createFakeWorkerApp, FakeState } from "./fake_worker_app.ts";

/** What a fake worker does wrong; each is normal in everything else. */
export const FAKE_MODES = [
  "normal",
  /** Binds its port and says nothing. */
  "never-calls-back",
  /** Calls back with a token it made up, and stays. */
  "wrong-token",
  /** Calls back a second time with the token that it has used, and logs the answer. */
  "calls-back-twice",
  "dies-before-callback",
  "dies-during-load",
  "dies-after-load",
  /** SIGKILL of itself after a few tokens. */
  "dies-mid-answer",
  /** A few tokens, then silence with an open connection. */
  "stalls-mid-answer",
  /** Reports an error, lingers, and leaves, as the real one does. */
  "load-fails",
  /** Loads half of its layers and no more. */
  "stuck-load",
  /** Never answers a shutdown; leaves on SIGTERM. */
  "ignores-shutdown",
  /** Never answers a shutdown, and SIGTERM means nothing to it. */
  "ignores-sigterm",
  /** Agrees to leave and stays. */
  "stays-after-shutdown",
  /** Never answers a health check. */
  "health-stalls",
  /** Answers a health check with something that is none. */
  "health-garbage",
  /** Answers health checks and never generates anything. */
  "cannot-generate",
  /** Generates another token each time it is tested. */
  "generates-nonsense",
  /** Never answers anything once it is loaded. */
  "freezes",
  /** A few tokens, then its engine stays in one step for ever, and its health says so. */
  "engine-stuck",
  /** A few tokens, then it takes more memory and more. */
  "eats-memory",
] as const;
/** See {@linkcode FAKE_MODES}. */
export type FakeMode = typeof FAKE_MODES[number];

const FLAGS = {
  mode: { type: "text", choices: FAKE_MODES, default: "normal", help: "What to do wrong." },
  "load-ms": { type: "integer", min: 0, default: 0, help: "How long the load takes." },
  "token-ms": { type: "integer", min: 0, default: 1, help: "Pause before each token." },
  layers: { type: "integer", min: 1, default: 8, help: "Layers of the model that is not there." },
  "private-mb": { type: "integer", min: 0, default: 40, help: "Memory it claims to hold once it is loaded." },
  "time-scale": { type: "integer", min: 1, default: 1, help: "Idle milliseconds for each real one." },
  model: { type: "text", default: "none", help: "As of the real worker, and so are the others." },
  "model-ref": { type: "text", default: "none", help: "" },
  backend: { type: "text", choices: BackendName.options, default: "cpu", help: "" },
  device: { type: "integer", default: 0, help: "" },
  host: { type: "text", default: "127.0.0.1", help: "" },
  port: { type: "text", default: "0", help: "" },
  advertise: { type: "text", default: "127.0.0.1", help: "" },
  "worker-id": { type: "text", default: "fake", help: "" },
  "callback-url": { type: "text", help: "" },
  "orphan-timeout": { type: "integer", default: 0, help: "" },
  slots: { type: "integer", min: 1, default: 4, help: "" },
  "ctx-size": { type: "integer", default: 512, help: "" },
  detect: { type: "boolean", help: "" },
} as const satisfies FlagTable;

/** How a fake worker is to behave. */
export interface FakeWorkerOptions {
  /** Default: `normal`. */
  mode?: FakeMode;
  /** How long its load takes. */
  loadMs?: number;
  /** Its pause before each token. */
  tokenMs?: number;
  /** Milliseconds for which it claims to have been idle, for each real one. */
  timeScale?: number;
  /** MB of memory that it claims to hold. */
  privateMb?: number;
}

/** The command that starts a fake worker: what a hive is given in place of the real one. */
export function fakeWorkerCommand(options: FakeWorkerOptions = {}): string[] {
  const { mode = "normal", loadMs = 0, tokenMs = 1, timeScale = 1, privateMb = 40 } = options;
  const program = fromFileUrl(import.meta.url);
  const config = fromFileUrl(new URL("../../deno.json", import.meta.url));
  const flags = {
    mode,
    "load-ms": loadMs,
    "token-ms": tokenMs,
    "time-scale": timeScale,
    "private-mb": privateMb,
  };
  return [
    ...[Deno.execPath(), "run", "-q", "-A", "--config", config, program],
    ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
  ];
}

/** No test lasts that long: a fake worker that everybody has forgotten does not stay for ever. */
const LIFESPAN_MS = 600_000;

const CPU: Device = {
  backend: "cpu",
  index: 0,
  name: "CPU",
  description: "a processor that computes nothing",
  memory_total_mb: 16_000,
  memory_free_mb: 8_000,
};

async function main(args: readonly string[]): Promise<void> {
  const { flags, problems } = readFlags(args, FLAGS);
  if (problems.length > 0) throw new Error(problems.join(" "));
  if (flags.detect) {
    return console.log(JSON.stringify({ rbee: VERSION, llama_cpp: "fake", devices: [CPU] }));
  }
  const mode = FAKE_MODES.find((known) => known === flags.mode)!;
  console.error(`fake worker in mode ${mode}`);
  if (mode === "dies-before-callback") {
    console.error("fake worker: something terrible happened");
    Deno.exit(3);
  }
  const log = createLogger({ part: "fake-worker", level: "info", format: "json" });
  const state = new FakeState({
    mode,
    modelRef: flags["model-ref"],
    slots: flags.slots,
    context: flags["ctx-size"],
    layers: flags.layers,
    tokenMs: flags["token-ms"],
    timeScale: flags["time-scale"],
    privateMb: flags["private-mb"],
  });
  const app = createFakeWorkerApp(state, { apiKey: Deno.env.get("RBEE_WORKER_API_KEY") ?? "fake-key", log });
  const url = `http://${flags.advertise}:${listen(app, flags)}`;
  log.info("listening", { url });
  setTimeout(() => Deno.exit(9), LIFESPAN_MS);
  Deno.addSignalListener("SIGTERM", () => {
    if (mode !== "ignores-sigterm") state.drain();
  });
  if (flags["callback-url"] !== undefined && mode !== "never-calls-back") {
    const callback = async (token: string) => {
      const hive = new HiveClient({ baseUrl: new URL(flags["callback-url"]!).origin, apiKey: token });
      await hive.workerReady({
        worker_id: flags["worker-id"],
        url,
        model_ref: flags["model-ref"],
        backend: BackendName.parse(flags.backend),
        device: flags.device,
        pid: Deno.pid,
      });
    };
    const token = Deno.env.get("RBEE_CALLBACK_TOKEN")!;
    if (mode === "wrong-token") {
      return await callback("made-up-token").catch((error) => log.warn("refused", { error }));
    }
    await callback(token);
    if (mode === "calls-back-twice") {
      await callback(token).catch((error) => log.warn("second callback refused", { code: error.code }));
    }
  }
  await state.load(flags["load-ms"]);
}

function listen(app: App, flags: { port: string; host: string }): number {
  const log = createLogger({ part: "fake-worker", level: "info", format: "json" });
  const [first, last = first] = flags.port.split("-").map(Number);
  for (let port = first;; port++) {
    try {
      return startServer(app, { listen: { hostname: flags.host, port }, log }).address.port;
    } catch (error) {
      const taken = error instanceof RbeeError && error.cause instanceof Deno.errors.AddrInUse;
      if (!taken || port === last) throw error;
    }
  }
}

if (import.meta.main) await main(Deno.args);

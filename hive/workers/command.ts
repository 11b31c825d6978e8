/** How a worker program is started: its command, its flags, its environment. */
import * as z from "zod";
import { programCommand } from "../../home/installation.ts";
import type { Config } from "../../home/config_schema.ts";
import type { Environment } from "../../home/paths.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { ORPHAN_TIMEOUT_HEALTH_CHECKS, ORPHAN_TIMEOUT_MIN_SECONDS } from "../limits.ts";
import type { SpawnPlan } from "./preflight.ts";

/** Set to a JSON list of strings, it replaces the worker that lies beside this hive. */
export const WORKER_COMMAND_VARIABLE = "RBEE_WORKER_COMMAND";

const Command = z.array(z.string().min(1)).min(1);

/**
 * Program and leading arguments of a worker.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the variable is set to something else than a list of strings.
 */
export function workerCommand(env: Environment): string[] {
  const given = env.get(WORKER_COMMAND_VARIABLE);
  if (!given) return programCommand("worker");
  try {
    return Command.parse(JSON.parse(given));
  } catch (cause) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `${WORKER_COMMAND_VARIABLE} must be a JSON list of strings, for example ["/usr/bin/llm-worker-rbee"].`,
      { cause },
    );
  }
}

/** Names of variables that a worker needs to run at all, to find its libraries and to reach its devices. */
const PASSED_ON = [
  /^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TMPDIR|TMP|TEMP|SYSTEMROOT|USERPROFILE)$/i,
  /^(LC|XDG|DENO|NPM_CONFIG|LD|DYLD|CUDA|NVIDIA|HIP|HSA|ROCR|VK|MESA|GGML|LLAMA|OMP|GOMP|KMP|RBEE_LOG|RBEE_TEST)_/i,
  /^NO_COLOR$/,
];
const SECRET = /KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH/i;

/** What of the hive's environment a worker gets: models come from strangers, so no secret is ever among it. */
export function workerEnvironment(own: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(own).filter(([name]) => PASSED_ON.some((known) => known.test(name)) && !SECRET.test(name)),
  );
}

/** Where a worker listens and whom it tells. */
export interface WorkerPlace {
  /** Address to bind. */
  host: string;
  /** Host name in the URL that callers get. */
  advertise: string;
  /** Inclusive; `[0, 0]` is any free port. */
  ports: readonly [first: number, last: number];
  /** The hive's own URL for the ready callback. */
  callbackUrl: string;
}

/** Seconds that a hive may say nothing until its workers take it to be gone for good. */
export function orphanTimeoutSeconds(healthIntervalSeconds: number): number {
  return Math.max(
    ORPHAN_TIMEOUT_MIN_SECONDS,
    Math.ceil(ORPHAN_TIMEOUT_HEALTH_CHECKS * healthIntervalSeconds),
  );
}

/** The flags of one worker; secrets go by environment. */
export function workerArgs(
  id: string,
  options: {
    plan: SpawnPlan;
    place: WorkerPlace;
    healthIntervalSeconds: number;
    sandbox: Config["hive"]["worker_sandbox"];
  },
): string[] {
  const { plan, place } = options;
  const [first, last] = place.ports;
  return [
    ["--model", plan.modelPath],
    ["--model-ref", plan.modelRef],
    ["--backend", plan.backend],
    ["--device", plan.device],
    ["--host", place.host],
    ["--port", first === last ? first : `${first}-${last}`],
    ["--advertise", place.advertise],
    ["--worker-id", id],
    ["--callback-url", place.callbackUrl],
    ["--orphan-timeout", orphanTimeoutSeconds(options.healthIntervalSeconds)],
    ["--slots", plan.slots],
    ["--ctx-size", plan.ctxSize],
    ...options.sandbox === "off" ? [["--sandbox", "off"]] : [],
  ].flat().map(String);
}

/** Scenarios of SPEC §8 against real processes: given a machine, when a person types, then this is what they see. */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import {
  emptyHome,
  type Finished,
  type KeeperProcess,
  runKeeper,
  startKeeper,
  type TestHome,
} from "../../keeper/testing/keeper_process.ts";
import { type RunningHive, startHive, type StartHiveOptions } from "../helpers/daemons.ts";
import type { FakeWorkerOptions } from "../helpers/fake_worker.ts";
import { type Hub, type HubOptions, startHub } from "../helpers/hub.ts";
import { type TempHome, tempHome } from "../helpers/temp_home.ts";
import { STORIES } from "../helpers/test_models.ts";

/** What a person types. */
export const INFER = ["infer", "--prompt", "tell me a story", "--max-tokens", "20"];
/** What a fake worker answers to it. */
export const STORY = "Once upon a time there was a little bee who lived in a hive by the sea. One day she ";
/** What is shown before the answer of a worker that was not there. */
export const STARTING = "Starting worker WORKER on mac (cpu device 0, chosen automatically).";
/** The same, once it has started. */
export const LOADING = ["Loading model to VRAM...", "Model ready!"];

/** What there is before anybody types. */
export interface Given {
  /** How workers behave; default: well. */
  worker?: FakeWorkerOptions;
  /** The hive's environment beside the usual: its settings. */
  hive?: Record<string, string>;
  /** See {@linkcode StartHiveOptions}: for what only a namespace can show. */
  within?: (home: TempHome) => StartHiveOptions["within"];
  /** The person's settings beside the machines. */
  keeper?: Record<string, unknown>;
  /** What the hub has and does; default: `hf:acme/bee`, which is fine. */
  hub?: Partial<HubOptions>;
}

/** A machine called mac with a hive on it, and a person with a keeper elsewhere. */
export interface World {
  hive: RunningHive;
  /** The hive's. */
  hiveHome: TempHome;
  hub: Hub;
  /** The person's home; the keeper's temporary files lie there, too. */
  home: TestHome;
  /** Types a command and waits for its end. */
  type(...args: string[]): Promise<Finished>;
  /** Types a command. */
  start(...args: string[]): KeeperProcess;
  /** Says something else of the machine in the person's configuration. */
  knowMac(as: { url?: string; api_key_file?: string }): Promise<void>;
}

/** Runs `then` in a world of its own. */
export async function given(
  what: Given,
  then: (world: World) => Promise<void>,
): Promise<void> {
  await using hub = await startHub({
    repos: { "acme/bee": { files: { "bee-Q4_K_M.gguf": { path: STORIES } } } },
    ...what.hub,
  });
  await using hiveHome = await tempHome({ hfEndpoint: hub.url });
  await using hive = await startHive({
    home: hiveHome,
    worker: what.worker ?? {},
    env: what.hive,
    within: what.within?.(hiveHome),
  });
  await using home = await emptyHome();
  const { path } = home;
  await Deno.writeTextFile(join(path, "mac.key"), `${hive.key}\n`, { mode: 0o600 });
  const knowMac = async (as: { url?: string; api_key_file?: string }) => {
    const nodes = { mac: { url: hive.url, api_key_file: join(path, "mac.key"), ...as } };
    await Deno.writeTextFile(
      join(path, "config.yaml"),
      JSON.stringify({ nodes, keeper: { node: "mac", ...what.keeper } }),
    );
  };
  await knowMac({});
  const type = (...args: string[]) => runKeeper(args, { home });
  await then({ hive, hiveHome, hub, home, type, start: (...args) => startKeeper(args, { home }), knowMac });
}

/** Numbers and names that differ from run to run. */
const MASKS: [what: RegExp, mask: string][] = [
  [/[a-z_][\w-]*@(?=127\.0\.0\.1)/g, "USER@"],
  [/127\.0\.0\.1:\d+/g, "HOST:PORT"],
  [/127\.0\.0\.1 port \d+/g, "HOST port PORT"],
  [/0\.0\.0\.0:\d+/g, "0.0.0.0:PORT"],
  [/\/tmp\/rbee-[a-z]+-[0-9a-f]+/g, "TMP"],
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "ID"],
  [/\b[0-9a-f]{12}\b/g, "WORKER"],
  [/\bin \d+ ms\b/g, "in N ms"],
  [/\b\d+ MB\b/g, "N MB"],
  [/\(os error \d+\)/g, "(os error N)"],
];

/** What was seen, masked. */
export function masked(text: string): string {
  return MASKS.reduce((shown, [what, mask]) => shown.replaceAll(what, mask), text);
}

/** Compares exit code, stdout and stderr, each by itself. */
export function saw(finished: Finished, expected: { code: number; stdout?: string; stderr: string[] }): void {
  const { code, stdout, stderr } = finished;
  assertEquals(
    { code, stdout, stderr: masked(stderr).split("\n") },
    { code: expected.code, stdout: expected.stdout ?? "", stderr: [...expected.stderr, ""] },
  );
}

/** What the tests of this folder stand on: a hub, a home, and models that neither wait nor draw lots. */
import { join } from "@std/path";
import { createLogger } from "../../daemon/log.ts";
import { ConfigSchema } from "../../home/config_schema.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { encodeGguf, type GgufParts } from "../../tests/helpers/gguf_format.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "../../tests/helpers/gguf_writer.ts";
import { type Hub, type HubOptions, startHub } from "../../tests/helpers/hub.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { isTerminal, type TerminalEvent } from "./download_job.ts";
import { Models } from "./models.ts";
import type { ModelsOptions } from "./models_options.ts";
import { unsettledFiles } from "./unsettled.ts";

/** The repository that most tests use. */
export const REPO = "acme/tiny";
/** Its only model. */
export const FILE = "tiny-Q4_K_M.gguf";
/** The reference that means it. */
export const REF = `hf:${REPO}`;
/** The project's `models/`. */
export const BUILTIN_DIR = new URL("../../models", import.meta.url).pathname;

/** A small whole model, different for each seed. */
export function tinyGguf(seed = 1): Uint8Array {
  return encodeGguf(llamaGgufParts({ ...TINIEST_LLAMA, seed })).slice();
}

/** A few hundred bytes that are a whole model as far as a header can tell. */
export function smallestGguf(change: (parts: GgufParts) => GgufParts = (parts) => parts): Uint8Array {
  const { metadata, tensors } = llamaGgufParts(TINIEST_LLAMA);
  const plain = metadata.filter(([key]) => !String(key).startsWith("tokenizer."));
  return encodeGguf(change({ metadata: plain, tensors: tensors.slice(1, 2) })).slice();
}

/** Everything a test needs; disposing stops and removes it. */
export interface Bed extends AsyncDisposable {
  hub: Hub;
  models: Models;
  /** The same home, hub and cache with a new {@linkcode Models}; the one before is closed. */
  restart(change?: Partial<ModelsOptions>): Promise<Models>;
  /** Pauses between attempts, in ms; none of them was waited for. */
  pausesMs: number[];
  /** Folder of the repository {@linkcode REPO} in the cache. */
  repoFolder: string;
  /** Folder of all temporary files. */
  path: string;
}

/** Starts one. Unless told otherwise the hub has {@linkcode REPO} with {@linkcode FILE}. */
export async function startBed(
  options: { hub?: Partial<HubOptions>; env?: Record<string, string>; models?: Partial<ModelsOptions> } = {},
): Promise<Bed> {
  const repos = { [REPO]: { files: { [FILE]: tinyGguf(), "README.md": "# tiny\n" } } };
  const hub = await startHub({ repos, ...options.hub });
  const home = await tempHome({ hfEndpoint: hub.url });
  const env = new Map(Object.entries({ ...home.env, HOME: home.path, ...options.env }));
  const pausesMs: number[] = [];
  const base: ModelsOptions = {
    ...options.models,
    // Small, so that tests can count.
    limits: { chunkBytes: 500, ...options.models?.limits },
    home: home.rbeeHome,
    env,
    config: ConfigSchema.parse({ hub: { endpoint: hub.url } }),
    builtinDir: BUILTIN_DIR,
    log: createLogger({ part: "test", level: "error", format: "json" }),
    timing: {
      now: () => performance.now(),
      random: () => 0.5,
      delay(ms, signal) {
        pausesMs.push(ms);
        return signal?.aborted ? Promise.reject(signal.reason) : Promise.resolve();
      },
    },
    ...(options.models?.timing && { timing: options.models.timing }),
  };
  let models = new Models(base);
  return {
    hub,
    pausesMs,
    path: home.path,
    repoFolder: join(models.modelsDir, "models--acme--tiny"),
    get models() {
      return models;
    },
    async restart(change = {}) {
      await models.close();
      return models = new Models({ ...base, ...change });
    },
    async [Symbol.asyncDispose]() {
      await models.close();
      await hub[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** A download that was followed to its end. */
export interface Followed {
  events: DownloadEvent[];
  last: TerminalEvent;
}

/** Follows a download to its end. */
export function follow(models: Models, id: string): Promise<Followed> {
  const events: DownloadEvent[] = [];
  return new Promise((resolve) => {
    models.progress(id, (event) => {
      events.push(event);
      if (isTerminal(event)) resolve({ events, last: event });
    });
  });
}

/** Downloads and follows to the disk: nothing is on its way there any more. */
export async function fetchModel(models: Models, ref = REF): Promise<Followed> {
  const followed = await fetchNamed(models, ref);
  await eventually(
    "what came is on the disk",
    async () => (await unsettledFiles(models.modelsDir)).length === 0,
  );
  return followed;
}

/** Downloads and follows, whether the answer came at once or not. */
export async function fetchNamed(models: Models, ref = REF): Promise<Followed> {
  try {
    const answer = await models.download(ref);
    if ("local_path" in answer) {
      const last = { stage: "complete", local_path: answer.local_path } as const;
      return { events: [], last };
    }
    return await follow(models, answer.download_id);
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    return { events: [], last: { stage: "error", error: error.toBody("") } };
  }
}

/** The path a download came to; fails if it did not. */
export async function fetchPath(models: Models, ref = REF): Promise<string> {
  const { last } = await fetchModel(models, ref);
  if (last.stage === "complete") return last.local_path;
  throw new Error(`download failed: ${JSON.stringify(last.error)}`);
}

/** The error a download came to; fails if there was none. */
export async function fetchError(models: Models, ref = REF) {
  const { last } = await fetchModel(models, ref);
  if (last.stage === "error") return last.error;
  throw new Error(`download came to ${last.local_path} instead of an error`);
}

/** Paths of all files and links below a folder, sorted. */
export async function filesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (at: string) => {
    for await (const entry of Deno.readDir(at === "" ? folder : join(folder, at))) {
      const path = at === "" ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory) await walk(path);
      else found.push(path);
    }
  };
  await walk("");
  return found.sort();
}

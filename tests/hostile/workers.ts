/** Real workers for hostile input: each holds the model that its requests are for, and dies when it is left behind. */
import { join } from "@std/path";
import { ReadyResponse } from "../../protocol/worker_schemas.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Daemon, startDaemon } from "../helpers/daemons.ts";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { eventually } from "../helpers/eventually.ts";
import { writeRankerGguf } from "../helpers/gguf_ranker.ts";
import { findModel, STORIES } from "../helpers/test_models.ts";
import type { Ground } from "./entry.ts";
import type { Target } from "./send.ts";

/** Time for a model to be loaded, or refused. */
const LOAD_LIMIT_MS = 60_000;
/** The context length stands early in the file. */
const HEADER_BYTES = 65_536;
const LONG_CONTEXT = 65_536;
/** A template that knows tools. */
const WITH_TOOLS = "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use";
const EMBEDDER = "glove-6b-100d-bow-40k-Q8_0.gguf";

/** A worker that has loaded its model. */
export interface HostileWorker extends Target, AsyncDisposable {
  daemon: Daemon;
  pid: number;
  /** Settles when it is over. */
  over: Promise<Deno.CommandStatus>;
}

/** How it is started. */
export interface StartOptions {
  /** Where model files that are made, and its home, go. */
  folder: string;
  /** More environment. */
  env?: Readonly<Record<string, string>>;
  /** Another checkout than this. */
  root?: string;
}

/** Starts the worker for a ground. */
export async function startGround(ground: Ground, options: StartOptions): Promise<HostileWorker> {
  switch (ground) {
    case "answers":
      return await startWith(
        await longStories(options.folder),
        ["--slots", "4", "--ctx-size", "4096"],
        options,
      );
    case "long answers":
      return await startWith(
        await longStories(options.folder),
        ["--slots", "2", "--ctx-size", "36864", "--chat-template", chatTemplate(WITH_TOOLS)],
        options,
      );
    case "embeddings": {
      const embedder = findModel(EMBEDDER);
      if (embedder !== undefined) return await startWith(embedder, ["--slots", "4"], options);
      return await startWith(STORIES, ["--embeddings", "--pooling", "mean", "--slots", "4"], options);
    }
    case "ranking": {
      const path = join(options.folder, "ranker.gguf");
      await writeRankerGguf(path);
      return await startWith(path, ["--embeddings", "--pooling", "rank", "--slots", "4"], options);
    }
  }
}

/**
 * Starts a worker with a model.
 *
 * @throws {LoadRefused} when it says that it can't load it.
 */
export async function startWith(
  model: string,
  args: readonly string[],
  options: StartOptions,
): Promise<HostileWorker> {
  const key = crypto.randomUUID();
  const home = await Deno.makeTempDir({ dir: options.folder, prefix: "home-" });
  const daemon = startDaemon({
    main: "worker/main.ts",
    permissions: "worker",
    root: options.root,
    args: ["--model", model, "--port", "0", ...args],
    env: { RBEE_HOME: home, RBEE_WORKER_API_KEY: key, ...options.env },
  });
  const end = async () => {
    await daemon.kill();
    await Deno.remove(home, { recursive: true });
  };
  try {
    const { url } = await daemon.logged("its address", ({ message }) => message === "listening");
    const target = { url: String(url), key };
    await eventually("the model is loaded", async () => {
      const state = await status(target, daemon);
      if (state.state === "failed") throw new LoadRefused(state.error.code);
      return state.ready;
    }, LOAD_LIMIT_MS);
    return { ...target, daemon, pid: daemon.pid, over: daemon.status, [Symbol.asyncDispose]: end };
  } catch (error) {
    const ended = await Promise.race([daemon.status, Promise.resolve(undefined)]);
    await end();
    if (error instanceof LoadRefused || ended === undefined) throw error;
    if (ended.signal === null && ended.code === 1) throw new LoadRefused("ended");
    throw new WorkerDied(
      `ended with ${ended.signal ?? `status ${ended.code}`}: ${daemon.logs().slice(-400)}`,
    );
  }
}

/** The stories' model with a context that is said to be longer: what it writes there means nothing, and is the same. */
export async function longStories(folder: string): Promise<string> {
  // A file of its own for each worker: what one has mapped is not written to again.
  const path = await Deno.makeTempFile({ dir: folder, prefix: "long-stories-", suffix: ".gguf" });
  const bytes = await Deno.readFile(STORIES);
  const key = "llama.context_length";
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, HEADER_BYTES));
  // Behind the key: the value's type, then the value.
  new DataView(bytes.buffer).setUint32(text.indexOf(key) + key.length + 4, LONG_CONTEXT, true);
  await Deno.writeFile(path, bytes);
  return path;
}

/** The worker says that it can't load its model. */
export class LoadRefused extends Error {
  /** The error's code. */
  constructor(readonly code: string) {
    super(`The model was refused: ${code}`);
  }
}

/** The worker is gone without a word. */
export class WorkerDied extends Error {}

async function status(target: Target, daemon: Daemon): Promise<ReadyResponse> {
  const gone: Promise<never> = daemon.status.then(() => {
    throw new WorkerDied("The worker ended while it loaded its model.");
  });
  const asked = fetch(new URL(WORKER_ROUTES.ready.path, target.url), {
    headers: { Authorization: `Bearer ${target.key}` },
    signal: AbortSignal.timeout(LOAD_LIMIT_MS),
  }).then((answer) => answer.json());
  // Whichever loses is nobody's business any more.
  for (const promise of [gone, asked]) promise.catch(() => {});
  return ReadyResponse.parse(await Promise.race([asked, gone]));
}

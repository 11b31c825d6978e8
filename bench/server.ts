/** Our worker and llama-server behind one interface: started with the same slots, context and threads. */
import { basename } from "@std/path";
import { startDaemon } from "../tests/helpers/daemons.ts";
import { startLlamaServer } from "./llama_server.ts";

/** A request for a streamed answer. */
export interface Question {
  prompt: string;
  maxTokens: number;
  /** Ours only. */
  requestId?: string;
  /** Ours only: whether to guess tokens from the prompt; absent: not said. */
  speculative?: "auto" | "on" | "off";
}

/** What a stream of events told. */
export interface Summary {
  /** That were generated. */
  tokens: number;
  promptTokens: number;
  /** Of the prompt, those that were not read again. */
  cachedTokens: number;
}

/** A server with a loaded model. */
export interface InferenceServer extends AsyncDisposable {
  url: string;
  pid: number;
  /** The exact command line, the model by its file name, without the port. */
  command: string;
  /** Sent with every request. */
  headers: Record<string, string>;
  request(question: Question): Request;
  /** Reads the events of one answer. */
  summary(events: ServerEvent[]): Summary;
}

/** One event of a stream. */
// deno-lint-ignore no-explicit-any
export type ServerEvent = any;

/** How a server is started. */
export interface ServerSetup {
  model: string;
  /** 0, for ours only: as many as it chooses itself. */
  threads: number;
  /** Answers at once. Default: 1. */
  slots?: number;
  /** Ours only: an unpacked archive whose worker it is. */
  archive?: string;
  /** Tokens of each slot: the model must be trained for as many. Default: 512. */
  context?: number;
}

/** Starts one of the servers and waits until it can answer. */
export type StartServer = (setup: ServerSetup) => Promise<InferenceServer>;

const KEY = "key-of-the-benchmark";

/** `llm-worker-rbee`, as a hive starts it. */
export const startWorker: StartServer = async ({ model, threads, slots = 1, context = 512, archive }) => {
  const home = await Deno.makeTempDir({ prefix: "rbee-bench-" });
  const flags = ["--model", model, "--slots", slots, "--ctx-size", context].map(String);
  if (threads > 0) flags.push("--threads", String(threads));
  const worker = startDaemon({
    main: "worker/main.ts",
    permissions: "worker",
    args: [...flags, "--port", "0"],
    env: { RBEE_WORKER_API_KEY: KEY, RBEE_HOME: home },
    archive,
  });
  const stop = async () => {
    await worker.stop();
    await Deno.remove(home, { recursive: true });
  };
  try {
    const { url } = await worker.logged("listening", ({ message }) => message === "listening");
    await worker.logged("loaded", ({ message }) => message === "model loaded");
    const headers = { Authorization: `Bearer ${KEY}` };
    const shown = flags.map((flag) => flag === model ? basename(model) : flag);
    return {
      url: String(url),
      pid: worker.pid,
      command: [
        archive === undefined
          ? "deno run -q --no-prompt -P=worker worker/main.ts"
          : "dist/rbee-*/llm-worker-rbee",
        ...shown,
      ].join(" "),
      headers,
      request: ({ prompt, maxTokens, requestId, speculative }) =>
        new Request(`${url}/v1/inference`, {
          method: "POST",
          headers,
          body: JSON.stringify({
            prompt,
            max_tokens: maxTokens,
            temperature: 0,
            request_id: requestId,
            speculative,
          }),
        }),
      summary(events) {
        const done = events.find((event) => event.done);
        if (done === undefined) throw new Error(`rbee did not finish: ${JSON.stringify(events.at(-1))}`);
        return {
          tokens: done.total_tokens,
          promptTokens: done.prompt_tokens,
          cachedTokens: done.cached_tokens,
        };
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
};

/** `llama-server` of the same source. */
export const startPeer: StartServer = async ({ model, threads, slots = 1, context = 512 }) => {
  // Its -c is what all slots have together.
  const flags = ["-t", threads, "-np", slots, "-c", context * slots].map(String);
  const { url, pid, command, [Symbol.asyncDispose]: stop } = await startLlamaServer(model, flags);
  return {
    url,
    pid,
    command,
    headers: {},
    request: ({ prompt, maxTokens }) =>
      new Request(`${url}/completion`, {
        method: "POST",
        body: JSON.stringify({ prompt, n_predict: maxTokens, temperature: 0, stream: true }),
      }),
    summary(events) {
      const done = events.find((event) => event.stop);
      if (done === undefined) {
        throw new Error(`llama-server did not finish: ${JSON.stringify(events.at(-1))}`);
      }
      return {
        tokens: done.tokens_predicted,
        promptTokens: done.tokens_evaluated,
        cachedTokens: done.timings.cache_n,
      };
    },
    [Symbol.asyncDispose]: stop,
  };
};

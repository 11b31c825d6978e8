/** Those that are compared: our worker and llama-server over HTTP, llama-bench and llama-batched-bench without. */
import { basename, fromFileUrl } from "@std/path";
import { startDaemon } from "../tests/helpers/daemons.ts";
import { startLlamaServer } from "./llama_server.ts";
import type { Contender } from "./measure.ts";

/** What a row measures. */
export interface StreamLoad {
  model: string;
  /** Answers at once. */
  streams: number;
  /** Of each answer. */
  tokens: number;
  threads: number;
}

/** A contender that has a process to end. */
export type RunningContender = Contender & AsyncDisposable;

const KEY = "key-of-the-benchmark";
const BEGINNINGS = [
  ...["Once upon a time", "The dog saw", "A girl named", "Tom and Sam"],
  ...["One day, a", "The big red", "In the park", "Lily had a"],
];

/** `llm-worker-rbee` as a hive starts it. */
export async function ourWorker(load: StreamLoad): Promise<RunningContender> {
  const { model, streams, threads, tokens } = load;
  const args = ["--model", model, "--slots", String(streams), "--threads", String(threads)];
  const worker = startDaemon({
    main: "worker/main.ts",
    permissions: "worker",
    args: [...args, "--port", "0"],
    env: { RBEE_WORKER_API_KEY: KEY, RBEE_HOME: Deno.makeTempDirSync() },
  });
  const { url } = await worker.logged("listening", ({ message }) => message === "listening");
  await worker.logged("loaded", ({ message }) => message === "model loaded");
  return {
    name: "rbee",
    command: `llm-worker-rbee ${shown(args, model)}`,
    run: () =>
      tokensPerSecond(load, (prompt) =>
        new Request(`${url}/v1/inference`, {
          method: "POST",
          headers: { Authorization: `Bearer ${KEY}` },
          body: JSON.stringify({ prompt, max_tokens: tokens, temperature: 0 }),
        })),
    [Symbol.asyncDispose]: async () => void await worker.stop(),
  };
}

/** `llama-server` of the same source, flags and threads. */
export async function llamaServer(load: StreamLoad): Promise<RunningContender> {
  const { model, streams, threads, tokens } = load;
  const server = await startLlamaServer(model, [
    ...["-t", String(threads), "-np", String(streams), "-c", String(512 * streams)],
  ]);
  return {
    name: "llama-server",
    command: server.command,
    run: () =>
      tokensPerSecond(load, (prompt) =>
        new Request(`${server.url}/completion`, {
          method: "POST",
          body: JSON.stringify({ prompt, n_predict: tokens, temperature: 0, stream: true }),
        })),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** No server, no sampling, no text: the model alone. */
export function llamaBench({ model, threads, tokens, streams }: StreamLoad): RunningContender {
  const single = streams === 1;
  const program = single ? "llama-bench" : "llama-batched-bench";
  const args = single
    ? ["-m", model, "-t", String(threads), "-p", "0", "-n", String(tokens), "-r", "1", "-o", "jsonl"]
    : [
      ...["-m", model, "-t", String(threads), "-c", String(512 * streams), "-npp", "4"],
      ...["-ntg", String(tokens), "-npl", String(streams), "--output-format", "jsonl"],
    ];
  const path = fromFileUrl(new URL(`../worker/native/build/cpu/bin/${program}`, import.meta.url));
  return {
    name: program,
    command: `${program} ${shown(args, model)}`,
    async run() {
      const { stdout, success } = await new Deno.Command(path, { args, stderr: "null" }).output();
      if (!success) throw new Error(`${program} failed`);
      const line = new TextDecoder().decode(stdout).split("\n").find((text) => text.startsWith("{"));
      const figures = JSON.parse(line!);
      return single ? figures.avg_ts : figures.speed_tg;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Tokens of all streams together over the time from the first request to the last end. */
async function tokensPerSecond(load: StreamLoad, request: (prompt: string) => Request): Promise<number> {
  const startedMs = performance.now();
  const counts = await Promise.all(
    Array.from({ length: load.streams }, async (_, i) => {
      const response = await fetch(request(BEGINNINGS[i % BEGINNINGS.length]));
      if (!response.ok) throw new Error(`${response.url} answered ${response.status}`);
      let events = 0;
      let lineStart = true;
      for await (const chunk of response.body!) {
        // An event is a line that starts with "d"; counting bytes costs the machine least.
        for (const byte of chunk) {
          if (lineStart && byte === 0x64) events++;
          lineStart = byte === 0x0a;
        }
      }
      return Math.min(events, load.tokens);
    }),
  );
  const seconds = (performance.now() - startedMs) / 1000;
  return counts.reduce((sum, count) => sum + count, 0) / seconds;
}

function shown(args: readonly string[], model: string): string {
  return args.map((arg) => arg === model ? basename(model) : arg).join(" ");
}

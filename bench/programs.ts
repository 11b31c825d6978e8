/** Peers without a server: llama-bench, llama-batched-bench and node-llama-cpp, run once for each figure. */
import { basename, fromFileUrl, join } from "@std/path";
import { CACHE } from "./models.ts";
import type { RunningContender } from "./row.ts";

const BUILT = fromFileUrl(new URL("../worker/native/build/cpu/bin/", import.meta.url));
const NODE_SCRIPT = fromFileUrl(new URL("node_llama_cpp.mjs", import.meta.url));
const NODE_PACKAGE = "node-llama-cpp";
const NODE_VERSION = "3.22.1";
/** llama-batched-bench now and then leaves before its log thread has printed anything. */
const ATTEMPTS = 5;

/** The model alone, no sampling, no text: reads `promptTokens`, or generates `tokens`. */
export function llamaBench(
  load: { model: string; threads: number; tokens?: number; promptTokens?: number },
): RunningContender {
  const { model, threads, tokens = 0, promptTokens = 0 } = load;
  const args = ["-m", model, "-t", threads, "-p", promptTokens, "-n", tokens, "-r", 1, "-o", "jsonl"];
  return oneShot("llama-bench", args.map(String), { model, figure: "avg_ts" });
}

/** Several streams at once, no sampling, no text. */
export function llamaBatchedBench(
  load: { model: string; threads: number; tokens: number; streams: number },
): RunningContender {
  const { model, threads, tokens, streams } = load;
  const args = [
    ...["-m", model, "-t", threads, "-c", 512 * streams, "-npp", 4, "-ntg", tokens, "-npl", streams],
    ...["--output-format", "jsonl"],
  ];
  return oneShot("llama-batched-bench", args.map(String), { model, figure: "speed_tg" });
}

/** The npm package of that name, with the addon that it brings ready built; installed for benchmarks only. */
export async function nodeLlamaCpp(
  load: { model: string; threads: number; tokens: number },
): Promise<RunningContender> {
  const { model, threads, tokens } = load;
  const args = [NODE_SCRIPT, await installedNodePackage(), model, threads, tokens].map(String);
  return oneShot("node", args, { model, figure: "tokens_per_second" });
}

/** A program that prints one line of JSON with the figure in it. */
function oneShot(
  program: string,
  args: string[],
  { model, figure }: { model: string; figure: string },
): RunningContender {
  const path = program.startsWith("llama-") ? join(BUILT, program) : program;
  const shown = args.map((arg) => {
    if (arg === model) return basename(model);
    if (arg === NODE_SCRIPT) return "bench/node_llama_cpp.mjs";
    return arg.startsWith(CACHE) ? `.cache/bench${arg.slice(CACHE.length)}` : arg;
  });
  return {
    command: [program, ...shown].join(" "),
    async run() {
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        const { stdout, stderr, success } = await new Deno.Command(path, { args }).output();
        const text = new TextDecoder();
        if (!success) throw new Error(`${program} failed: ${text.decode(stderr).trim().slice(-300)}`);
        const line = text.decode(stdout).split("\n").find((line) => line.startsWith("{"));
        if (line !== undefined) return JSON.parse(line)[figure];
      }
      throw new Error(`${program} printed no figures.`);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Folder of the package; installed on first use, without the addons for GPUs and for other machines. */
async function installedNodePackage(): Promise<string> {
  const prefix = join(CACHE, NODE_PACKAGE);
  const folder = join(prefix, "node_modules", NODE_PACKAGE);
  try {
    const { version } = JSON.parse(await Deno.readTextFile(join(folder, "package.json")));
    if (version === NODE_VERSION) return folder;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await Deno.mkdir(prefix, { recursive: true });
  const addon = Deno.build.os === "darwin"
    ? "mac-arm64-metal"
    : `linux-${Deno.build.arch === "x86_64" ? "x64" : "arm64"}`;
  const packages = [`${NODE_PACKAGE}@${NODE_VERSION}`, `@${NODE_PACKAGE}/${addon}@${NODE_VERSION}`];
  const { success, stderr } = await new Deno.Command("npm", {
    args: [
      "i",
      "--prefix",
      prefix,
      "--ignore-scripts",
      "--omit=optional",
      "--no-audit",
      "--no-fund",
      ...packages,
    ],
  }).output();
  if (!success) {
    throw new Error(`npm could not install ${NODE_PACKAGE}: ${new TextDecoder().decode(stderr).slice(-300)}`);
  }
  return folder;
}

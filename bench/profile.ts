/**
 * `deno task bench:profile [--answers N]`: where a token's time goes. One stream of the smallest model, where what is
 * not the model shows most; the engine's own clocks and the kernel's accounts of the worker's threads, per token.
 * Writes bench/PROFILE.md. Linux only.
 */
import { type FlagTable, readFlags } from "../home/flags.ts";
import { sharedModel } from "../tests/helpers/test_models.ts";
import { tokensPerSecond } from "./answer.ts";
import { STORIES } from "./models.ts";
import { type InferenceServer, startWorker } from "./server.ts";

const FLAGS = {
  answers: { type: "integer", value: "N", min: 1, max: 1000, default: 20, help: "Answers after a warm-up." },
} as const satisfies FlagTable;

const TOKENS = 400;
/** The kernel counts CPU time in ticks of 10 ms. */
const TICK_US = 10_000;

/** What was used so far, in microseconds. */
interface Account {
  /** By what the engine thread did. */
  engine: Record<string, number>;
  /** CPU time by thread group, apart from and within the kernel. */
  threads: Record<string, { user: number; system: number }>;
}

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: string[]): Promise<number> {
  const { flags, problems } = readFlags(args, FLAGS);
  const model = sharedModel(`${STORIES}.gguf`);
  if (model === undefined) problems.push(`RBEE_TEST_MODELS must name a folder that holds ${STORIES}.gguf.`);
  if (problems.length > 0 || model === undefined) {
    for (const problem of problems) console.error(`Error: ${problem}`);
    return 2;
  }
  await using server = await startWorker({ model, threads: 1 });
  const question = { prompt: "Once upon a time", maxTokens: TOKENS };
  await tokensPerSecond(server, [question]);
  const before = await account(server);
  const startMs = performance.now();
  for (let i = 0; i < flags.answers; i++) await tokensPerSecond(server, [question]);
  const wallUs = (performance.now() - startMs) * 1000;
  const table = render(before, await account(server), { tokens: flags.answers * TOKENS, wallUs });
  await Deno.writeTextFile(new URL("PROFILE.md", import.meta.url), table);
  console.log(table);
  return 0;
}

async function account(server: InferenceServer): Promise<Account> {
  const { url, headers, pid } = server;
  const metrics = await (await fetch(`${url}/metrics`, { headers })).text();
  const engine: Account["engine"] = {};
  for (const [, doing, seconds] of metrics.matchAll(/engine_seconds_total\{doing="(\w+)"\} (\S+)/g)) {
    engine[doing] = Number(seconds) * 1e6;
  }
  const threads: Account["threads"] = {};
  for (const { name: tid } of Deno.readDirSync(`/proc/${pid}/task`)) {
    const stat = await Deno.readTextFile(`/proc/${pid}/task/${tid}/stat`);
    // Behind the name in parentheses: fields 14 and 15 of proc(5) are user and system time.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const group = groupOf(/\((.*)\)/.exec(stat)![1], Number(tid) === pid);
    const sum = threads[group] ??= { user: 0, system: 0 };
    sum.user += Number(fields[11]) * TICK_US;
    sum.system += Number(fields[12]) * TICK_US;
  }
  return { engine, threads };
}

function groupOf(thread: string, main: boolean): string {
  if (main) return "JavaScript";
  return thread === "rbee-engine" ? "engine" : "others";
}

function render(before: Account, after: Account, run: { tokens: number; wallUs: number }): string {
  const { tokens, wallUs } = run;
  const perToken = (us: number) => (us / tokens).toFixed(1);
  const doing = (name: string) => after.engine[name] - before.engine[name];
  const cpu = (group: string, kind: "user" | "system") =>
    (after.threads[group]?.[kind] ?? 0) - (before.threads[group]?.[kind] ?? 0);
  const engineRest = cpu("engine", "user") + cpu("engine", "system") - doing("step") - doing("sampling") -
    doing("handover");
  const rows = [
    ["native step: computing the model", "engine", doing("step")],
    ["sampling", "engine", doing("sampling")],
    ["hand-over: text, stop strings, queue, waking JavaScript", "engine", doing("handover")],
    ["the rest of the engine thread (or its clocks' error)", "engine", engineRest],
    ["JavaScript: events to SSE, streams, HTTP", "JavaScript", cpu("JavaScript", "user")],
    ["socket: the kernel's part of the JavaScript thread", "JavaScript", cpu("JavaScript", "system")],
    [
      "other threads: garbage collection, compiler, pool",
      "others",
      cpu("others", "user") + cpu("others", "system"),
    ],
  ] as const;
  return [
    "# Where a token's time goes",
    "",
    `One stream of ${STORIES}, one thread, ${tokens} tokens in answers of ${TOKENS}, over HTTP: ` +
    `${perToken(wallUs)} µs a token (${
      Math.round(tokens / wallUs * 1e6)
    } tokens/s). The threads work beside each ` +
    "other: what is not in the engine's lines costs another core, not the answer. Made by `deno task bench:profile`.",
    "",
    "| what | thread | µs a token |",
    "| --- | --- | --- |",
    ...rows.map(([what, thread, us]) => `| ${what} | ${thread} | ${perToken(us)} |`),
    "",
  ].join("\n");
}

/**
 * The thread that looks on while hostile input is sent: how long health takes, whether a neighbour's stream goes on, how
 * much memory the worker has. A thread of its own, because whoever makes the input is busy with that.
 */
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { NO_END } from "./send.ts";
import type { Figures, Order, Report, Watched } from "./witness.ts";

const PROBE_INTERVAL_MS = 20;
const MEMORY_INTERVAL_MS = 50;
const PAUSE_MS = 50;
/** A health call that takes longer than this is not waited for. */
const PROBE_LIMIT_MS = 60_000;
const BYTES_PER_KB = 1024;

const port = self as unknown as {
  onmessage: (event: MessageEvent<Order>) => void;
  postMessage(report: Report): void;
};
const watching = new Map<number, AbortController>();
/** Text of a neighbour's stream that nobody disturbed, by model and length. */
const references = new Map<string, string>();
let label = "";
let figures = fresh();

port.onmessage = ({ data }) => {
  switch (data.order) {
    case "watch": {
      const stop = new AbortController();
      watching.set(data.watched.pid, stop);
      watch(data.watched, stop.signal);
      return;
    }
    case "leave":
      watching.get(data.pid)?.abort();
      watching.delete(data.pid);
      return;
    case "label":
      label = data.label;
      return;
    case "collect":
      port.postMessage({ report: "figures", figures });
      figures = fresh();
  }
};

function fresh(): Figures {
  return {
    healthMs: [],
    slowestHealth: { ms: 0, label: "" },
    streams: 0,
    longestGap: { ms: 0, label: "" },
    lost: [],
    mostMegabytes: { megabytes: 0, above: 0, label: "" },
    killed: [],
  };
}

function watch(watched: Watched, signal: AbortSignal): void {
  probe(watched, signal);
  measure(watched, signal);
  if (watched.neighbourTokens !== undefined) neighbour(watched, signal);
}

/** Health at a steady pace: a probe that is late stands for those that could not be sent meanwhile. */
async function probe({ url, key }: Watched, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const startedMs = performance.now();
    const labels = label;
    try {
      const response = await fetch(new URL(WORKER_ROUTES.v1Health.path, url), {
        headers: { Authorization: `Bearer ${key}` },
        signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_LIMIT_MS)]),
      });
      await response.body?.cancel();
    } catch {
      if (signal.aborted) return;
    }
    const tookMs = performance.now() - startedMs;
    for (let ms = tookMs; ms > 0; ms -= PROBE_INTERVAL_MS) figures.healthMs.push(ms);
    if (tookMs > figures.slowestHealth.ms) figures.slowestHealth = { ms: tookMs, label: labels };
    await pause(PROBE_INTERVAL_MS - tookMs, signal);
  }
}

/** Memory that no file stands behind. The worker is killed before it takes the machine along. */
async function measure({ pid, planMegabytes, mostMegabytes }: Watched, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    let megabytes: number;
    try {
      const status = await Deno.readTextFile(`/proc/${pid}/status`);
      megabytes = Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * BYTES_PER_KB / 1e6;
    } catch {
      return;
    }
    const above = megabytes - planMegabytes;
    if (figures.mostMegabytes.label === "" || above > figures.mostMegabytes.above) {
      figures.mostMegabytes = { megabytes, above, label };
    }
    if (megabytes > mostMegabytes) {
      figures.killed.push(`${label}: ${megabytes.toFixed(0)} MB`);
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
      return;
    }
    await pause(MEMORY_INTERVAL_MS, signal);
  }
}

/** Streams one after the other, each the same text. */
async function neighbour(watched: Watched, signal: AbortSignal): Promise<void> {
  const { url, key, neighbourTokens, model } = watched;
  const body = JSON.stringify({
    prompt: "Once upon a time",
    max_tokens: neighbourTokens,
    temperature: 0,
    strict: true,
    seed: 1,
    logit_bias: NO_END,
  });
  while (!signal.aborted) {
    let text = "";
    const startLabel = label;
    try {
      const response = await fetch(new URL(WORKER_ROUTES.inference.path, url), {
        method: "POST",
        headers: { "Authorization": `Bearer ${key}`, "Content-Type": "application/json" },
        body,
        signal,
      });
      if (response.status === 503) {
        await response.body?.cancel();
        await pause(PAUSE_MS, signal);
        continue;
      }
      let lastMs = 0;
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
        const nowMs = performance.now();
        if (lastMs > 0 && nowMs - lastMs > figures.longestGap.ms) {
          figures.longestGap = { ms: nowMs - lastMs, label };
        }
        lastMs = nowMs;
        text += chunk;
      }
    } catch (error) {
      if (signal.aborted) return;
      figures.lost.push(`${startLabel} … ${label}: ${String(error).slice(0, 200)}`);
      await pause(PAUSE_MS, signal);
      continue;
    }
    const problem = lostOf(text, `${model} ${neighbourTokens}`, neighbourTokens!);
    if (problem === undefined) figures.streams++;
    else figures.lost.push(`${startLabel} … ${label}: ${problem}`);
  }
}

/** What a stream has lost; undefined: nothing. */
function lostOf(stream: string, name: string, tokens: number): string | undefined {
  const events = stream.split("\n\n").filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice("data: ".length)));
  const error = events.find((event) => event.error !== undefined)?.error;
  if (error) return `${error.code}: ${error.message}`;
  const made = events.filter((event) => event.token !== undefined);
  if (made.length !== tokens || made.some(({ index }, i) => index !== i)) {
    return `${made.length} of ${tokens} tokens`;
  }
  if (!stream.endsWith("data: [DONE]\n\n")) return "no end";
  const text = made.map(({ token }) => token).join("");
  const reference = references.get(name);
  if (reference === undefined) references.set(name, text);
  else if (text !== reference) return "another text than undisturbed";
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

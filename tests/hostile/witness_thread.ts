/**
 * The thread that looks on while hostile input is sent: how long health takes, whether a neighbour's stream goes on, how
 * much memory the worker has. A thread of its own, because whoever makes the input is busy with that.
 */
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { readStream, streamOf } from "./neighbour.ts";
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
/** Streams of neighbours on their way. */
const open = new Set<Promise<unknown>>();
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
      // What was disturbed has to come to its end, or nobody knows whether it does.
      Promise.all(open).then(() => {
        port.postMessage({ report: "figures", figures });
        figures = fresh();
      });
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
  if (watched.neighbour !== undefined) neighbour(watched, signal);
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
  const { tokens, text } = watched.neighbour!;
  while (!signal.aborted) {
    const startLabel = label;
    let lastMs = 0;
    const onChunk = () => {
      const nowMs = performance.now();
      if (lastMs > 0 && nowMs - lastMs > figures.longestGap.ms) {
        figures.longestGap = { ms: nowMs - lastMs, label };
      }
      lastMs = nowMs;
    };
    const stream = streamOf(watched, { tokens, signal, onChunk }).then((stream) => {
      if (stream === undefined) return undefined;
      const read = readStream(stream, tokens);
      if ("lost" in read) return read.lost;
      return read.text === text ? true : difference(read.text, text);
    }, (error) => signal.aborted ? undefined : String(error).slice(0, 200));
    open.add(stream);
    const outcome = await stream;
    open.delete(stream);
    if (outcome === true) figures.streams++;
    else if (outcome !== undefined) figures.lost.push(`${startLabel} … ${label}: ${outcome}`);
    // Without a slot, or without a worker, there is nothing to hurry for.
    if (outcome !== true) await pause(PAUSE_MS, signal);
  }
}

/** Where a text differs from the undisturbed one. */
function difference(text: string, undisturbed: string): string {
  let at = 0;
  while (text[at] === undisturbed[at]) at++;
  const around = (whole: string) => JSON.stringify(whole.slice(at, at + 40));
  return `its text: from character ${at} on it is ${around(text)}, undisturbed ${around(undisturbed)}`;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0 || signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

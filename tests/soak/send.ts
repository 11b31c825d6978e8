/** Sends one request of the soak, goes back on it where it is to, and looks at every byte that comes back. */
import { ErrorEnvelopeSchema } from "../../protocol/errors.ts";
import { routePath, WORKER_ROUTES } from "../../protocol/routes.ts";
import { DONE } from "../../protocol/sse.ts";
import { InferenceEvent, InferenceResponse, type InferenceStats } from "../../protocol/worker_schemas.ts";
import type { Plan } from "./requests.ts";

/** A worker under soak. */
export interface Target {
  url: string;
  key: string;
}

/** What became of a request. */
export interface Result {
  /** A stop reason, an error's code, `aborted` by this side, or `broken`. */
  outcome: string;
  /** What was asked for and did not come true. */
  problems: string[];
  /** Of an answer that came to its end. */
  text?: string;
  stats?: InferenceStats;
}

/** Nothing takes that long: an answer that does is stuck. */
const STUCK_MS = 120_000;

interface Answer {
  text: string;
  stats: InferenceStats;
  logprobs: (number | undefined)[];
  tops: (number | undefined)[];
}

/** Sends the request of `plan`. Never throws: what goes wrong is a problem. */
export async function sendPlan(target: Target, plan: Plan): Promise<Result> {
  const canceler = createCanceler(target, plan);
  try {
    const result = await answered(target, plan, canceler);
    await canceler.settled();
    return { ...result, problems: [...result.problems, ...canceler.problems] };
  } catch (error) {
    await canceler.settled();
    if (canceler.aborted && isAbort(error)) return { outcome: "aborted", problems: canceler.problems };
    return { outcome: "broken", problems: [`broke off: ${error}`, ...canceler.problems] };
  } finally {
    canceler.stop();
  }
}

async function answered(target: Target, plan: Plan, canceler: Canceler): Promise<Result> {
  const sent = fetch(new URL(WORKER_ROUTES.inference.path, target.url), {
    method: "POST",
    headers: { ...plan.headers, "Authorization": `Bearer ${target.key}`, "Content-Type": "application/json" },
    body: typeof plan.body === "string" ? plan.body : JSON.stringify(plan.body),
    signal: AbortSignal.any([canceler.signal, AbortSignal.timeout(STUCK_MS)]),
  });
  canceler.sent();
  const response = await sent;
  canceler.requestId ??= response.headers.get("X-Request-Id") ?? undefined;
  if (!response.ok) return refusal(plan, await response.json());
  const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream") ?? false;
  const answer = isStream ? await readStream(response, canceler) : await readWhole(response);
  if (typeof answer === "string") return { outcome: "broken", problems: [answer] };
  const { text, stats } = answer;
  return { outcome: stats.stop_reason, problems: answerProblems(plan, answer), text, stats };
}

function refusal(plan: Plan, body: unknown): Result {
  const { code, message } = ErrorEnvelopeSchema.parse(body).error;
  const expected = code === "ALL_SLOTS_BUSY" || plan.expect.includes(code);
  return { outcome: code, problems: expected ? [] : [`refused: ${code}: ${message}`] };
}

/** The answer, or in words what is wrong with the stream. */
async function readStream(response: Response, canceler: Canceler): Promise<Answer | string> {
  const answer: Omit<Answer, "stats"> = { text: "", logprobs: [], tops: [] };
  let stats: InferenceStats | undefined;
  let ended = false;
  let rest = "";
  const text = response.body!.pipeThrough(new TextDecoderStream("utf-8", { fatal: true }));
  for await (const chunk of text) {
    const events = (rest + chunk).split("\n\n");
    rest = events.pop()!;
    for (const event of events) {
      if (event === ":") continue;
      if (ended) return `something follows ${DONE}: ${event}`;
      if (!event.startsWith("data: ")) return `no event: ${event}`;
      const data = event.slice("data: ".length);
      ended = data === DONE;
      if (ended) continue;
      if (stats !== undefined) return `something follows the terminal event: ${data}`;
      const parsed = InferenceEvent.parse(JSON.parse(data));
      if ("error" in parsed) return `failed: ${parsed.error.code}: ${parsed.error.message}`;
      if ("done" in parsed) {
        stats = parsed;
        continue;
      }
      if (parsed.index !== answer.logprobs.length) return `token ${parsed.index} is out of turn`;
      answer.text += parsed.token;
      answer.logprobs.push(parsed.logprob);
      answer.tops.push(parsed.top_logprobs?.length);
      canceler.token();
    }
  }
  if (rest !== "" || !ended || stats === undefined) return "the stream has no end";
  return { ...answer, stats };
}

async function readWhole(response: Response): Promise<Answer | string> {
  const bytes = await response.bytes();
  const body = InferenceResponse.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  const told = body.logprobs;
  return {
    text: body.text,
    stats: body,
    logprobs: body.token_ids.map((_, i) => told?.[i].logprob),
    tops: body.token_ids.map((_, i) => told?.[i].top_logprobs.length),
  };
}

/** What an answer does not have that it ought to. */
function answerProblems(plan: Plan, answer: Answer): string[] {
  const { text, stats, logprobs, tops } = answer;
  const { max_tokens, stop = [], logprobs: alternatives, seed } = plan.body as Record<string, unknown>;
  const { stop_reason, total_tokens } = stats;
  const deadline = "X-Deadline" in plan.headers;
  const told = (value: number | undefined) => alternatives === undefined ? value === undefined : value! <= 0;
  const checks: [ok: boolean, problem: string][] = [
    [plan.expect.includes("answer"), `was accepted instead of refused with ${plan.expect}`],
    [total_tokens === logprobs.length, `counts ${total_tokens} tokens, ${logprobs.length} came`],
    [total_tokens <= Number(max_tokens), `has ${total_tokens} tokens, ${max_tokens} were asked for`],
    [stats.cached_tokens < stats.prompt_tokens, "says that none of its prompt was read"],
    [seed === undefined || stats.seed === seed, `says seed ${stats.seed}`],
    [logprobs.every(told), "has log probabilities that are none, or not asked for"],
    [tops.every((count) => count === alternatives), "has another number of alternatives"],
    [text.isWellFormed(), "is no well-formed text"],
    [(stop as string[]).every((one) => !text.includes(one)), `holds a stop string: ${text}`],
    [stop_reason !== "stop" || (stop as string[]).length > 0, "was stopped by nothing"],
    [stop_reason !== "deadline" || deadline, "had no deadline"],
    [stop_reason !== "canceled" || plan.cancel !== undefined, "was canceled by nobody"],
    [plan.shape?.test(text) ?? true, `leaves its grammar: ${text}`],
    [
      plan.keys === undefined || stop_reason !== "eos" || hasKeys(text, plan.keys),
      `leaves its schema: ${text}`,
    ],
  ];
  return checks.filter(([ok]) => !ok).map(([, problem]) => problem);
}

function hasKeys(text: string, keys: string[]): boolean {
  try {
    const value = JSON.parse(text);
    return keys.every((key) => key in value);
  } catch {
    return false;
  }
}

/** Goes back on one request when its moment has come. */
interface Canceler {
  readonly signal: AbortSignal;
  readonly aborted: boolean;
  readonly problems: string[];
  requestId: string | undefined;
  /** The request is on its way. */
  sent(): void;
  /** A token came. */
  token(): void;
  /** Waits for what it sent itself. */
  settled(): Promise<void>;
  /** The moment will not come any more. */
  stop(): void;
}

function createCanceler(target: Target, plan: Plan): Canceler {
  const aborter = new AbortController();
  const problems: string[] = [];
  const running: Promise<void>[] = [];
  const { cancel } = plan;
  let tokens = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const remove = async (requestId: string) => {
    const path = routePath(WORKER_ROUTES.cancel, { request_id: requestId });
    const headers = { Authorization: `Bearer ${target.key}` };
    const { status } = await fetch(new URL(path, target.url), { method: "DELETE", headers });
    if (status !== 204) problems.push(`a cancel was answered with ${status}`);
  };
  const run = () => {
    if (cancel === undefined) return;
    if (cancel.how === "abort") return aborter.abort();
    const id = cancel.how === "unknown" ? crypto.randomUUID() : canceler.requestId;
    if (id === undefined) return;
    const times = cancel.how === "delete twice" ? 2 : 1;
    for (let i = 0; i < times; i++) {
      running.push(remove(id).catch((error) => void problems.push(`a cancel failed: ${error}`)));
    }
  };
  const at = () => {
    if (cancel !== undefined && "tokens" in cancel.after && cancel.after.tokens === tokens) run();
  };
  const canceler: Canceler = {
    signal: aborter.signal,
    problems,
    requestId: typeof plan.body === "string" ? undefined : plan.body.request_id as string | undefined,
    get aborted() {
      return aborter.signal.aborted;
    },
    sent() {
      at();
      if (cancel !== undefined && "ms" in cancel.after) timer = setTimeout(run, cancel.after.ms);
    },
    token() {
      tokens++;
      at();
    },
    settled: async () => void await Promise.all(running),
    stop: () => clearTimeout(timer),
  };
  return canceler;
}

function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * Answers to llama-server's command line and its own routes with our worker behind: what its tests start. Routes that
 * the worker has go to it as they are, with the defaults that llama-server takes from its command line.
 */
import { startWorker, type WorkerProcess } from "../helpers/worker_process.ts";
import { completion } from "./completion.ts";
import { type Asked, readFlags } from "./flags.ts";

type Json = Record<string, unknown>;

/** llama-server queues where the worker says to come back. */
const BUSY = 503;
const RETRY_MS = 20;

const SAME = new Set([
  ...["/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/embeddings", "/v1/rerank"],
  ...["/tokenize", "/detokenize", "/apply-template"],
]);
const ALIASES: Readonly<Record<string, string>> = {
  "/models": "/v1/models",
  "/chat/completions": "/v1/chat/completions",
  "/rerank": "/v1/rerank",
};
const GENERATING = new Set(["/v1/completions", "/v1/chat/completions"]);

if (import.meta.main) {
  const folder = await Deno.makeTempDir();
  const asked = await readFlags(Deno.args, folder);
  const worker = asked.model === undefined ? undefined : await started(asked);
  for (const hostname of asked.hosts) {
    Deno.serve(
      { hostname, port: asked.port, onListen: () => {} },
      (request) => answer(request, { asked, worker }),
    );
  }
  Deno.addSignalListener("SIGTERM", async () => {
    await worker?.kill();
    await worker?.[Symbol.asyncDispose]();
    await Deno.remove(folder, { recursive: true });
    Deno.exit(0);
  });
}

async function started(asked: Asked): Promise<WorkerProcess> {
  return await startWorker({ model: asked.model!, modelRef: asked.alias, args: asked.workerArgs });
}

interface Served {
  asked: Asked;
  worker: WorkerProcess | undefined;
}

async function answer(request: Request, served: Served): Promise<Response> {
  const { asked, worker } = served;
  const { pathname } = new URL(request.url);
  if (pathname === "/health") return Response.json({ status: "ok" });
  if (worker === undefined) return failure(501, "This model is not at hand.");
  const key = request.headers.get("Authorization");
  if (asked.apiKey !== undefined && key !== `Bearer ${asked.apiKey}`) return failure(401, "Wrong key.");
  if (pathname === "/props") return props(served);
  if (pathname === "/slots") return await slots(served);
  const body: Json | undefined = request.method === "POST" ? await request.json() : undefined;
  const call = (path: string, body: Json | undefined, signal: AbortSignal) =>
    ask(worker, { path, body, signal });
  const { signal } = request;
  if (pathname === "/completion") {
    const defaults = { ...asked.defaults, context: asked.context };
    return translated(await completion(call, withDefaults(body!, asked), { defaults, signal }));
  }
  if (pathname === "/chat/completions/input_tokens") {
    const prompt = await promptOf(call, body!, signal);
    const { tokens } = await (await call("/tokenize", { content: prompt, add_special: true }, signal)).json();
    return Response.json({ input_tokens: tokens.length });
  }
  const path = ALIASES[pathname] ?? pathname;
  if (!SAME.has(path)) return failure(404, `There is no ${pathname}.`);
  if (!GENERATING.has(path) && path !== "/apply-template") return translated(await call(path, body, signal));
  const response = translated(await call(path, chatDefaults(withDefaults(body!, asked), asked), signal));
  const isVerbose = (asked.debug || body!.verbose === true) && path === "/v1/chat/completions" &&
    !body!.stream;
  return isVerbose && response.ok ? await verbose(response, { call, body: body!, signal }) : response;
}

/** With what the command line has as defaults. */
function withDefaults(body: Json, { defaults }: Asked): Json {
  const { temperature } = defaults;
  // A request that names a seed is read from its start, and llama-server's command line names one for all.
  const seed = Deno.env.get("RBEE_ADAPTER_SEED") === "none" ? undefined : defaults.seed;
  return {
    ...temperature === undefined ? {} : { temperature },
    ...seed === undefined ? {} : { seed },
    ...body,
  };
}

function chatDefaults(body: Json, { defaults }: Asked): Json {
  const { n_predict, reasoning, reasoning_format } = defaults;
  return {
    ...n_predict > 0 ? { max_tokens: n_predict } : {},
    ...reasoning_format === undefined ? {} : { reasoning_format },
    ...body,
    ...reasoning === "off" || reasoning === "on"
      ? { chat_template_kwargs: { enable_thinking: reasoning === "on" } }
      : {},
  };
}

async function ask(
  worker: WorkerProcess,
  what: { path: string; body: Json | undefined; signal: AbortSignal },
): Promise<Response> {
  for (;;) {
    const response = await fetch(`${worker.url}${what.path}`, {
      method: what.body === undefined ? "GET" : "POST",
      headers: { Authorization: `Bearer ${worker.key}` },
      body: what.body === undefined ? undefined : JSON.stringify(what.body),
      signal: what.signal,
    });
    if (response.status !== BUSY) return response;
    await response.body?.cancel();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** An error that llama-server has a name and fields of its own for. */
function translated(response: Response): Response {
  if (response.status !== 400) return new Response(response.body, response);
  const body = (async () => {
    const whole = await response.json();
    const numbers = /has (?:more than )?(\d+) tokens, the context holds (\d+)/.exec(
      whole.error?.message ?? "",
    );
    if (numbers !== null) {
      const [, prompt, context] = numbers;
      Object.assign(whole.error, {
        type: "exceed_context_size_error",
        n_prompt_tokens: Number(prompt),
        n_ctx: Number(context),
      });
    }
    return new TextEncoder().encode(JSON.stringify(whole));
  })();
  const stream = new ReadableStream({
    async start(controller) {
      controller.enqueue(await body);
      controller.close();
    },
  });
  return new Response(stream, { status: response.status, headers: { "Content-Type": "application/json" } });
}

type CallWorker = (path: string, body: Json | undefined, signal: AbortSignal) => Promise<Response>;

async function promptOf(call: CallWorker, body: Json, signal: AbortSignal): Promise<string> {
  return (await (await call("/apply-template", body, signal)).json()).prompt;
}

/** As the prompt was read: with the token that the model puts before it. */
async function verbose(
  response: Response,
  what: { call: CallWorker; body: Json; signal: AbortSignal },
): Promise<Response> {
  const { call, body, signal } = what;
  const prompt = await promptOf(call, body, signal);
  const { tokens } = await (await call("/tokenize", { content: prompt, add_special: true }, signal)).json();
  const { content } = await (await call("/detokenize", { tokens }, signal)).json();
  return Response.json({ ...await response.json(), __verbose: { prompt: content } });
}

function props({ asked }: Served): Response {
  return Response.json({
    model_path: asked.model,
    total_slots: asked.slots,
    default_generation_settings: {
      n_ctx: Math.floor(asked.context / asked.slots),
      params: { seed: asked.defaults.seed },
    },
  });
}

async function slots({ asked, worker }: Served): Promise<Response> {
  if (!asked.tellsSlots) return failure(501, "Slots are not told: start with --slots.");
  const state = await worker!.client.ready();
  const free = state.ready ? state.slots_available : 0;
  return Response.json(Array.from({ length: asked.slots }, (_, id) => ({
    id,
    n_ctx: Math.floor(asked.context / asked.slots),
    is_processing: id < asked.slots - free,
  })));
}

function failure(status: number, message: string): Response {
  return Response.json({ error: { message, code: status } }, { status });
}

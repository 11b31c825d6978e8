/**
 * `deno task bench:ids`: do our answers have the token ids of llama.cpp itself? Sends every case of `id_cases.ts` to
 * llama-server, built from the same submodule, and to our engine, and compares ids and the reason of the end. `--record`
 * writes llama-server's answers to tests/fixtures/token_ids.json, which the tests hold against our engine.
 */
import { fromFileUrl } from "@std/path";
import { DEFAULT_MAX_TOKENS } from "../protocol/limits.ts";
import { InferenceRequest } from "../protocol/worker_requests.ts";
import {
  answerIds,
  type IdAnswer,
  idDifference,
  type IdFixture,
  kernelProbe,
  loadIdEngine,
} from "../tests/helpers/token_ids.ts";
import { findModel } from "../tests/helpers/test_models.ts";
import { LLAMA_RELEASE } from "../tools/llama_release.ts";
import { CONTEXT, ID_CASES, type IdCase, MODELS } from "./id_cases.ts";
import { type LlamaServer, startLlamaServer } from "./llama_server.ts";

const FIXTURE = fromFileUrl(new URL("../tests/fixtures/token_ids.json", import.meta.url));

/**
 * What makes both compute alike: one thread, one slot. Where heads are as small as here our engine switches flash
 * attention off and keeps the KV cache in F32; it has no checkpoints of recurrent state, for which llama-server reads
 * the last tokens of a prompt apart.
 */
const FLAGS = `-t 1 -np 1 -c ${CONTEXT} -fa off -ctk f32 -ctv f32 --ctx-checkpoints 0`.split(" ");

/** The part of llama-server's answer that is compared. */
interface PeerAnswer {
  tokens: number[];
  stop_type: "eos" | "limit" | "word";
}

const STOP_REASONS = { eos: "eos", limit: "length", word: "stop" } as const;

// The exit comes after the server was stopped.
if (import.meta.main) Deno.exit(await main());

async function main(): Promise<number> {
  const paths = Object.values(MODELS).map((model) => ({ model, path: findModel(model) }));
  const missing = paths.filter(({ path }) => path === undefined).map(({ model }) => model);
  if (missing.length > 0) {
    console.error(`Error: set RBEE_TEST_MODELS to the folder that holds ${missing.join(", ")}.`);
    return 2;
  }
  const fixture: IdFixture = { probes: {}, cases: [] };
  let equal = 0;
  for (const { model, path } of paths) {
    await using server = await startLlamaServer(path!, FLAGS);
    const engine = await loadIdEngine(path!);
    fixture.probes[model] = await kernelProbe(engine);
    for (const idCase of ID_CASES.filter((each) => each.model === model)) {
      const expected = await askPeer(server, idCase);
      fixture.cases.push({ name: idCase.name, ...expected });
      const difference = idDifference(await answerIds(engine, idCase), expected);
      if (difference === undefined) equal++;
      const verdict = difference ?? `${expected.ids.length} ids equal, then ${expected.stop_reason}`;
      console.log(`${difference === undefined ? "equal " : "DIFFERS"} ${idCase.name}: ${verdict}`);
    }
    await engine.close();
  }
  if (Deno.args.includes("--record")) await record(fixture);
  console.log(`${equal} of ${ID_CASES.length} equal`);
  return equal === ID_CASES.length ? 0 : 1;
}

/** The same request in llama-server's words. What they leave out is common's default on both sides. */
async function askPeer(server: LlamaServer, { request }: IdCase): Promise<IdAnswer> {
  const asked = InferenceRequest.parse(request);
  const { tokens, stop_type } = await complete(server, asked, {
    n_predict: asked.max_tokens ?? DEFAULT_MAX_TOKENS,
    temperature: asked.temperature,
    top_p: asked.top_p,
    top_k: asked.top_k,
    min_p: asked.min_p,
    repeat_penalty: asked.repetition_penalty,
    presence_penalty: asked.presence_penalty,
    frequency_penalty: asked.frequency_penalty,
    seed: asked.seed,
    stop: asked.stop,
    grammar: asked.grammar,
    json_schema: asked.json_schema,
    n_probs: asked.logprobs,
    return_tokens: true,
    cache_prompt: false,
  });
  // llama-server lists the token that ends an answer, our engine does not.
  return { ids: stop_type === "eos" ? tokens.slice(0, -1) : tokens, stop_reason: STOP_REASONS[stop_type] };
}

async function complete(server: LlamaServer, asked: InferenceRequest, options: object): Promise<PeerAnswer> {
  const { prompt, messages } = asked;
  if (prompt !== undefined) return await post<PeerAnswer>(server, "/completion", { ...options, prompt });
  // With a schema, /v1/chat/completions lets the model put blanks and a ```json fence around the value and takes them
  // off the text again. Our tokens go out as they come, so there the value is all there is: that of /completion.
  if (asked.json_schema !== undefined) {
    const rendered = await post<{ prompt: string }>(server, "/apply-template", { messages });
    return await post<PeerAnswer>(server, "/completion", { ...options, prompt: rendered.prompt });
  }
  const body = { ...options, messages, verbose: true };
  return (await post<{ __verbose: PeerAnswer }>(server, "/v1/chat/completions", body)).__verbose;
}

async function post<Answer>(server: LlamaServer, route: string, body: object): Promise<Answer> {
  const response = await fetch(server.url + route, { method: "POST", body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`llama-server refuses ${route}: ${await response.text()}`);
  return await response.json();
}

/** One case a line, so that a change shows where it is. */
async function record({ probes, cases }: IdFixture): Promise<void> {
  const head = {
    made_by: "deno task bench:ids --record",
    peer: ["llama-server", ...FLAGS].join(" "),
    llama_cpp: LLAMA_RELEASE.commit,
    probes,
  };
  const start = JSON.stringify(head).slice(0, -1);
  const lines = cases.map((each) => JSON.stringify(each)).join(",\n");
  await Deno.writeTextFile(FIXTURE, `${start},"cases":[\n${lines}\n]}\n`);
}

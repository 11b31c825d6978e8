/**
 * `deno task test:differential`: chat requests made up from a seed, put to our worker and to llama-server from the same
 * source, over chat templates that llama.cpp ships. The prompts must be equal, and so must what is made of the same
 * answer: the model recites one, a call in the template's own words. Also compares embeddings, where there is a model.
 */
import { parseArgs } from "@std/cli";
import { startLlamaServer } from "../../bench/llama_server.ts";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { writeRankerGguf } from "../helpers/gguf_ranker.ts";
import { writeRecitalGguf } from "../helpers/gguf_recital.ts";
import { sharedModel } from "../helpers/test_models.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { CALL_ARGUMENTS, CALLED_TOOL, type ChatRequest, Choices, randomChat } from "./random_chats.ts";

const TEMPLATES = [
  "Qwen-Qwen2.5-7B-Instruct",
  "Qwen-Qwen3-0.6B",
  "Qwen3-Coder",
  "meta-llama-Llama-3.1-8B-Instruct",
  "meta-llama-Llama-3.2-3B-Instruct",
  "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
  "mistralai-Mistral-Nemo-Instruct-2407",
  "meetkai-functionary-medium-v3.2",
  "deepseek-ai-DeepSeek-V3.1",
  "google-gemma-2-2b-it",
  "openai-gpt-oss-120b",
  "GLM-4.6",
];
const CONTEXT = 32_768;
const EMBEDDING_TOLERANCE = 1e-5;
/** Texts that are computed together round otherwise than alone. */
const SCORE_TOLERANCE = 1e-3;

type Json = Record<string, unknown>;
type Ask = (path: string, body: unknown) => Promise<{ status: number; body: Json }>;

interface Tally {
  prompts: number;
  answers: number;
  calls: number;
  refusedByBoth: number;
  /** Answers that llama-server gave up on. */
  onlyOurs: number;
  differences: string[];
}

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: string[]): Promise<number> {
  const { requests = 360, seed = 1 } = parseArgs(args);
  const tally: Tally = { prompts: 0, answers: 0, calls: 0, refusedByBoth: 0, onlyOurs: 0, differences: [] };
  const choices = new Choices(Number(seed));
  const each = Math.ceil(Number(requests) / TEMPLATES.length);
  const folder = await Deno.makeTempDir();
  try {
    for (const name of TEMPLATES) {
      await compareTemplate(name, {
        folder,
        tally,
        requests: Array.from({ length: each }, () => randomChat(choices)),
      });
      const { prompts, answers, calls } = tally;
      console.log(`${name}: so far ${prompts} prompts, ${answers} answers, ${calls} of them with calls`);
    }
    await compareEmbeddings(tally);
    await compareScores(folder, tally);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  for (const difference of tally.differences) console.log(`DIFFERENT ${difference}`);
  const { prompts, answers, calls, refusedByBoth, onlyOurs, differences } = tally;
  console.log(`Equal: ${prompts} prompts, ${answers} answers, of these ${calls} with calls.`);
  console.log(`Refused by both: ${refusedByBoth}; answers that only llama-server gave up on: ${onlyOurs}.`);
  console.log(`${prompts + answers} passed, ${differences.length} failed`);
  return differences.length > 0 || calls === 0 ? 1 : 0;
}

async function compareTemplate(
  name: string,
  what: { folder: string; tally: Tally; requests: ChatRequest[] },
): Promise<void> {
  const { tally, requests } = what;
  const template = chatTemplate(name);
  const model = `${what.folder}/recital.gguf`;
  await writeRecitalGguf(model, await recitedCall(template, what.folder), CONTEXT);
  await using worker = await startWorker({
    model,
    args: ["--chat-template", template, "--ctx-size", String(CONTEXT), "--slots", "1", "--cache-type", "f16"],
  });
  await using server = await startLlamaServer(model, [
    ...[
      "--jinja",
      "--chat-template-file",
      template,
      "-c",
      String(CONTEXT),
      "-np",
      "1",
      "--temp",
      "0",
      "-fa",
      "off",
    ],
  ]);
  const ours = asker(worker.url, worker.key);
  const theirs = asker(server.url, "none");
  for (const [i, request] of requests.entries()) {
    const label = `${name} request ${i}`;
    const [our, their] = await both("/apply-template", request, { ours, theirs });
    if (their.status !== 200) {
      if (our.status === 200) {
        tally.differences.push(`${label}: only llama-server refuses: ${JSON.stringify(their.body)}`);
      } else tally.refusedByBoth++;
      continue;
    }
    if (our.body.prompt === their.body.prompt) tally.prompts++;
    else tally.differences.push(`${label}: prompts ${JSON.stringify([our.body, their.body])}`);
    await compareAnswers({ ...request, temperature: 0, max_tokens: 300, stream: false }, {
      label,
      ours,
      theirs,
      tally,
    });
  }
}

async function compareAnswers(
  request: ChatRequest,
  { label, ours, theirs, tally }: { label: string; ours: Ask; theirs: Ask; tally: Tally },
): Promise<void> {
  const [our, their] = await both("/v1/chat/completions", request, { ours, theirs });
  if (their.status !== 200) {
    // It drops an answer that its template does not foresee, and one that it cannot bind; we tell or bind it.
    if (our.status === 200) tally.onlyOurs++;
    else tally.refusedByBoth++;
    return;
  }
  if (our.status !== 200) {
    const message = JSON.stringify(our.body);
    // A required call that the template has no words for is no call: here the caller is told.
    if (request.tool_choice === "required" && message.includes("knows no tools")) {
      return void tally.refusedByBoth++;
    }
    return void tally.differences.push(`${label}: only we refuse: ${message}`);
  }
  const [a, b] = [our, their].map(({ body }) => essence(body));
  if (JSON.stringify(a) !== JSON.stringify(b)) {
    return void tally.differences.push(`${label}: answers ${JSON.stringify([a, b])}`);
  }
  tally.answers++;
  if (a.calls.length > 0) tally.calls++;
}

/** What an answer says; ids of calls are made up by each, and nothing and an empty text are the same. */
function essence(body: Json) {
  const [{ message, finish_reason }] = body.choices as { message: Json; finish_reason: string }[];
  const calls = (message.tool_calls ?? []) as { function: { name: string; arguments: string } }[];
  return {
    content: message.content || "",
    reasoning: message.reasoning_content || "",
    calls: calls.map((call) => [call.function.name, call.function.arguments]),
    finish_reason,
  };
}

/** A call as the template writes it in a conversation, so that an answer with it is one that it can read. */
async function recitedCall(template: string, folder: string): Promise<string> {
  const model = `${folder}/any.gguf`;
  await writeRecitalGguf(model, "anything", 512);
  await using worker = await startWorker({ model, args: ["--chat-template", template] });
  const ask = asker(worker.url, worker.key);
  const asked = { role: "user", content: "Weather?" };
  const said = (content: string, calls: unknown[]) => ({
    role: "assistant",
    content,
    ...calls.length > 0 ? { tool_calls: calls } : {},
  });
  const render = async (messages: unknown[], fields: Json) =>
    String((await ask("/apply-template", { messages, tools: [CALLED_TOOL], ...fields })).body.prompt);
  const call = {
    id: "call12345",
    type: "function",
    function: { name: "get_weather", arguments: JSON.stringify(CALL_ARGUMENTS) },
  };
  const whole = await render([asked, said("", [call])], { add_generation_prompt: false });
  const begun = await render([asked], { add_generation_prompt: true });
  const end = (await render([asked, said("END", [])], { add_generation_prompt: false })).split("END").at(-1)!;
  let shared = 0;
  while (shared < begun.length && whole[shared] === begun[shared]) shared++;
  const text = whole.slice(shared);
  const recited = end !== "" && text.endsWith(end) ? text.slice(0, -end.length) : text;
  // A template that writes no calls is given some text.
  return recited.trim().length >= 10 ? recited : "There is no call in this answer.";
}

async function compareEmbeddings(tally: Tally): Promise<void> {
  const model = sharedModel("glove-6b-100d-bow-40k-Q8_0.gguf");
  if (model === undefined) return console.log("Embeddings are not compared: their model is not at hand.");
  await using worker = await startWorker({ model });
  await using server = await startLlamaServer(model, ["--embeddings"]);
  const choices = new Choices(1);
  const input = [
    "cat on the sofa",
    "kitten on the couch",
    ...Array.from({ length: 48 }, () => choices.text()),
  ];
  const [our, their] = await both("/v1/embeddings", { input, encoding_format: "float" }, {
    ours: asker(worker.url, worker.key),
    theirs: asker(server.url, "none"),
  });
  const [a, b] = [our, their].map(({ body }) =>
    (body.data as { embedding: number[] }[]).map((each) => each.embedding)
  );
  const furthest = Math.max(...a.flatMap((vector, i) => vector.map((value, k) => Math.abs(value - b[i][k]))));
  console.log(
    `Embeddings of ${input.length} texts: the furthest value is ${furthest.toExponential(1)} away.`,
  );
  if (furthest > EMBEDDING_TOLERANCE) tally.differences.push(`embeddings: ${furthest}`);
}

async function compareScores(folder: string, tally: Tally): Promise<void> {
  const model = `${folder}/ranker.gguf`;
  await writeRankerGguf(model);
  await using worker = await startWorker({ model });
  await using server = await startLlamaServer(model, ["--reranking"]);
  const choices = new Choices(2);
  const documents = Array.from({ length: 20 }, () => choices.text());
  const [a, b] = (await both("/v1/rerank", { query: "where is the honey", documents }, {
    ours: asker(worker.url, worker.key),
    theirs: asker(server.url, "none"),
  })).map(({ body }) => (body.results as { index: number; relevance_score: number }[]));
  const furthest = Math.max(
    ...a.map(({ relevance_score }, i) => Math.abs(relevance_score - b[i].relevance_score)),
  );
  console.log(`Scores of ${documents.length} documents: the furthest is ${furthest.toExponential(1)} away.`);
  const sameOrder = a.every(({ index }, i) => index === b[i].index);
  if (!(furthest < SCORE_TOLERANCE) || !sameOrder) {
    tally.differences.push(`scores: ${JSON.stringify([a, b])}`);
  }
}

async function both(path: string, body: unknown, { ours, theirs }: { ours: Ask; theirs: Ask }) {
  return await Promise.all([ours(path, body), theirs(path, body)]);
}

function asker(url: string, key: string): Ask {
  return async (path, body) => {
    const response = await fetch(`${url}${path}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  };
}

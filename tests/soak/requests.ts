/** The requests of the soak: of every shape, random, and the same for the same seed. */
import { Random } from "./random.ts";

/** How a caller goes back on a request. */
export interface Cancel {
  /** `unknown` cancels an id that nobody has. */
  how: "abort" | "delete" | "delete twice" | "unknown";
  /** After so many token events, or so many milliseconds; at 0 tokens while the request is on its way. */
  after: { tokens: number } | { ms: number };
}

/** One request and what is to become of it. */
export interface Plan {
  /** Sent as JSON; a text as it is. */
  body: Record<string, unknown> | string;
  headers: Record<string, string>;
  cancel?: Cancel;
  /** An answer, an error of this code, or either of the two where it depends on the model. */
  expect: "answer" | "INVALID_REQUEST" | "REQUEST_TIMEOUT" | "answer or INVALID_REQUEST";
  /** What every text of an answer looks like, however it ends. */
  shape?: RegExp;
  /** An answer that ends by itself is JSON with these keys. */
  keys?: string[];
}

/** What of the model the requests depend on. */
export interface ModelShape {
  /** Tokens of a slot. */
  context: number;
  chatTemplate: boolean;
  /** Of story text. */
  charactersPerToken: number;
}

/** The longest answer that is asked for, in tokens. */
export const MAX_TOKENS = 200;

const SENTENCES = [
  "Once upon a time, there was a little girl named Lily. ",
  "She loved to play outside in the park with her friend Tom. ",
  "One day they saw a big red ball 🎈 near the café. ",
  "“Can we play with it?” asked Lily, and her mom said yes! ",
];
const SMALL_PROMPTS = ["a", " ", "\n", "The", "🐝", "é", "\u0000", "{", "Once upon a time"];
const STOPS = [".", " the", "Lily", "\n", "mom", "e", "🐝", "ing ", "</s>", "One day"];
const SCHEMA = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer" } },
  required: ["name", "age"],
};

/** Story text of about so many tokens, now and then from another beginning. */
export function storyText(tokens: number, model: Pick<ModelShape, "charactersPerToken">, first = 0): string {
  const characters = Math.max(1, Math.round(tokens * model.charactersPerToken));
  let text = "";
  for (let i = first; text.length < characters; i++) text += SENTENCES[i % SENTENCES.length];
  return text.slice(0, characters).toWellFormed();
}

/** A way in which requests differ from the plainest: how many of a hundred have it, and what it adds. */
type Feature = [
  percent: number,
  add: (random: Random, plan: Plan & { body: Record<string, unknown> }) => void,
];

const FEATURES: Feature[] = [
  [30, (_, { body }) => body.temperature = 0],
  [50, (random, { body }) => body.temperature ??= random.integer(0, 200) / 100],
  [20, (random, { body }) => body.top_k = random.integer(0, 200)],
  [20, (random, { body }) => body.top_p = random.integer(0, 100) / 100],
  [20, (random, { body }) => body.min_p = random.integer(0, 100) / 100],
  [10, (random, { body }) => body.repetition_penalty = random.integer(80, 150) / 100],
  [10, (random, { body }) => body.presence_penalty = random.integer(-200, 200) / 100],
  [10, (random, { body }) => body.frequency_penalty = random.integer(-200, 200) / 100],
  [30, (random, { body }) => body.seed = random.integer(0, 0xffff_fffe)],
  [
    25,
    (random, { body }) => body.stop = Array.from({ length: random.integer(1, 4) }, () => random.pick(STOPS)),
  ],
  [20, (random, { body }) => body.logprobs = random.integer(0, 20)],
  [8, (_, plan) => {
    plan.body.grammar = "root ::= [a-z ]{1,80}";
    plan.shape = /^[a-z ]*$/;
  }],
  [8, (_, plan) => {
    if (plan.body.grammar !== undefined) return;
    plan.body.json_schema = SCHEMA;
    plan.keys = ["name", "age"];
  }],
  [15, (_, { body }) => body.strict = true],
  [30, (random, { body }) => body.speculative = body.strict ? "off" : random.pick(["on", "off", "auto"])],
  [40, (_, { body }) => body.stream = false],
  [8, (random, { headers }) => headers["X-Deadline"] = String(random.integer(1, 80))],
  [2, (_, plan) => {
    plan.headers["X-Deadline"] = "0";
    plan.expect = "REQUEST_TIMEOUT";
  }],
];

const MISTAKES: ((body: Record<string, unknown>, model: ModelShape) => void)[] = [
  (body) => body.temperature = 3,
  (body) => body.max_tokens = 0,
  (body) => body.max_tokens = 1e9,
  (body) => body.no_such_field = 1,
  (body) => body.stop = [""],
  (body) => body.prompt = "",
  (body) => delete body.prompt,
  (body) => body.messages = [{ role: "user", content: "Both." }],
  (body) => body.seed = -1,
  (body) => body.top_k = 1.5,
  (body) => body.logprobs = 21,
  (body) => body.request_id = "two words",
  (body) => body.grammar = "root ::= nowhere",
  (body) => body.json_schema = { type: "no such type" },
  (body, model) => body.prompt = storyText(model.context * 2, model),
];

/** Request number `number` of the run with this seed. */
export function drawPlan(model: ModelShape, run: { seed: number; number: number }): Plan {
  const random = new Random(run.seed, run.number);
  const body: Record<string, unknown> = {
    prompt: storyText(random.integer(1, 40), model, random.chance(70) ? 0 : random.integer(1, 3)),
    max_tokens: random.integer(1, MAX_TOKENS),
  };
  const plan = { body, headers: {}, expect: "answer" } as Plan & { body: Record<string, unknown> };
  // Most carry an id of their own, the others get one from the worker.
  if (random.chance(80)) body.request_id = `soak-${run.seed}-${run.number}`;
  if (random.chance(8)) {
    if (random.chance(10)) {
      return { ...plan, body: random.pick(["{", "[]", "null", ""]), expect: "INVALID_REQUEST" };
    }
    random.pick(MISTAKES)(body, model);
    return { ...plan, expect: "INVALID_REQUEST" };
  }
  const kind = random.integer(1, 100);
  if (kind <= 15) {
    body.prompt = random.pick(SMALL_PROMPTS);
    plan.expect = "answer or INVALID_REQUEST";
  } else if (kind <= 25) {
    body.prompt = storyText(model.context * random.integer(80, 100) / 100, model);
    plan.expect = "answer or INVALID_REQUEST";
  } else if (kind <= 45 && model.chatTemplate) {
    body.messages = [{ role: "user", content: body.prompt }];
    delete body.prompt;
  }
  for (const [percent, add] of FEATURES) if (random.chance(percent)) add(random, plan);
  if (plan.expect !== "REQUEST_TIMEOUT" && random.chance(25)) plan.cancel = drawCancel(random);
  return plan;
}

function drawCancel(random: Random): Cancel {
  return {
    how: random.pick(["abort", "abort", "delete", "delete", "delete twice", "unknown"]),
    after: random.chance(50) ? { tokens: random.integer(0, 30) } : { ms: random.integer(0, 60) },
  };
}

/**
 * What a request may take of its key's budget, and what it took in the end. Everything that a model reads or makes for it
 * counts, whoever broke it off: a prompt that a worker had begun to read counts as a whole.
 */
import { DEFAULT_MAX_TOKENS } from "../../protocol/limits.ts";
import type { RelayProgress } from "../../protocol/relay_reader.ts";
import { FOREIGN_ROUTES } from "../../protocol/routes.ts";
import type { InferenceStats } from "../../protocol/worker_schemas.ts";
import type { Accounts } from "../accounts.ts";
import type { Reservation } from "../budgets.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { MovingMean } from "../queue/eta.ts";
import { RecentMap } from "../recent_map.ts";
import { requireContext } from "../request_limits.ts";
import {
  CHARS_PER_TOKEN,
  MEAN_WEIGHT,
  SURE_PART,
  UNSTATED_BUDGET_PART,
  UNSTATED_TOKENS_MIN,
} from "../limits.ts";
import type { Took, UsageCounts } from "../usage.ts";

/** Models whose tokens are measured. */
const MODELS_MAX = 1_000;
/** Estimated tokens below which a prompt says little of how long its model's tokens are. */
const MEASURED_TOKENS_MIN = 32;

/** What is asked of a model. */
export interface Asked {
  /** Of all its prompts, estimated. */
  readonly promptTokens: number;
  readonly prompts: number;
  /** To each prompt. */
  readonly choices: number;
  /** Most tokens of one answer; undefined: as many as there is room for. */
  readonly answerTokens?: number;
  /** These were not asked for: see {@linkcode Charges.boundOf}. */
  readonly bounded?: boolean;
  /** A worker counts the prompt before it reads it. */
  readonly counted: boolean;
  /** What the request calls its prompt, and the most tokens of an answer. */
  readonly fields: { readonly prompt: string; readonly answer: string };
}

const PROMPT_FIELDS = ["messages", "prompt", "input", "documents"];
const ANSWER_FIELDS = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

function fieldsIn(request: Record<string, unknown>): Asked["fields"] {
  const first = (names: readonly string[]) => names.find((name) => (request[name] ?? null) !== null);
  return { prompt: first(PROMPT_FIELDS) ?? "prompt", answer: first(ANSWER_FIELDS) ?? "max_tokens" };
}

/** Answers that have this many tokens when nobody says how many, by route; absent: as many as there is room for. */
const UNSTATED: Readonly<Record<string, number>> = { [FOREIGN_ROUTES.completions.path]: 16 };

/** Reads it from a request to a route whose answers are relayed; `promptTokens` is estimated from its text. */
export function askedIn(path: string, request: Record<string, unknown>, promptTokens: number): Asked {
  const { n, prompt } = request;
  const fields = fieldsIn(request);
  const stated = request[fields.answer] ?? UNSTATED[path];
  const { ids, prompts } = promptsIn(prompt);
  return {
    promptTokens: Math.max(promptTokens, ids),
    prompts,
    choices: typeof n === "number" ? n : 1,
    answerTokens: typeof stated === "number" && stated > 0 ? stated : undefined,
    counted: prompts === 1,
    fields,
  };
}

/** The same of a request that is answered beside the relay: nothing is made, what is read is all there is. */
export function readIn(request: Record<string, unknown>): Asked {
  const fields = fieldsIn(request);
  return { promptTokens: tokensIn(request), prompts: 1, choices: 1, answerTokens: 0, counted: false, fields };
}

/** Each document is read with the query before it. */
function tokensIn(request: Record<string, unknown>): number {
  const { input, query, documents } = request;
  if (Array.isArray(documents)) {
    const asked = typeof query === "string" ? query.length : 0;
    const chars = documents.reduce((sum: number, document) => sum + asked + charsOf(document), 0);
    return Math.ceil(chars / CHARS_PER_TOKEN);
  }
  const { ids } = promptsIn(input);
  return ids + Math.ceil(charsOf(input) / CHARS_PER_TOKEN);
}

/** Ids in a prompt, or in a list of prompts, and how many prompts that are. */
function promptsIn(given: unknown): { ids: number; prompts: number } {
  if (!Array.isArray(given)) return { ids: 0, prompts: 1 };
  const own = given.filter((part) => typeof part === "number").length;
  if (own > 0) return { ids: own, prompts: 1 };
  return {
    ids: given.reduce((sum, part) => sum + promptsIn(part).ids, 0),
    prompts: Math.max(1, given.length),
  };
}

function charsOf(text: unknown): number {
  if (typeof text === "string") return text.length;
  return Array.isArray(text) ? text.reduce((sum: number, part) => sum + charsOf(part), 0) : 0;
}

/** What charges need. */
export interface ChargesOptions {
  accounts: Accounts;
  usage: UsageCounts;
  cluster: Cluster;
}

/** Whose request it is, and for which model. */
export interface Payer {
  readonly id: string;
  readonly key: string;
  readonly model: string;
  /** Most tokens that its key lets the request and its answers have together. */
  readonly context?: number;
}

/** Reserves for requests, and charges them. */
export class Charges {
  readonly #options: ChargesOptions;
  /** By model: by how much its prompts have more tokens than was estimated. */
  readonly #excess = new RecentMap<string, MovingMean>(MODELS_MAX);

  /** See {@linkcode ChargesOptions}. */
  constructor(options: ChargesOptions) {
    this.#options = options;
  }

  /**
   * Most tokens that each answer may have, where the key has to say so because the request does not; undefined: nothing
   * has to. It is what is left of the budget, but not so much that one request takes the whole of a day, and no more
   * than the key's requests may have.
   */
  boundOf({ key, model, context = Infinity }: Omit<Payer, "id">, asked: Asked): number | undefined {
    if (asked.answerTokens !== undefined) return undefined;
    const { size, available } = this.#options.accounts.room(key);
    if (size === Infinity && context === Infinity) return undefined;
    const { prompts, choices } = asked;
    const promptTokens = this.#promptTokensOf(model, asked);
    const beside = (amount: number) => Math.max(1, Math.floor((amount - promptTokens) / (prompts * choices)));
    const most = Math.min(
      this.#contextOf(model),
      Math.max(DEFAULT_MAX_TOKENS, Math.floor(size / UNSTATED_BUDGET_PART)),
    );
    const least = Math.min(UNSTATED_TOKENS_MIN, beside(size), beside(context));
    return Math.max(least, Math.min(most, beside(available), beside(context)));
  }

  /**
   * Sets aside what a request may take.
   *
   * @throws {RbeeError} as {@linkcode Accounts.reserve}; `INVALID_REQUEST` when it is larger than its key's requests may
   * be, as far as that is certain before a worker has counted its prompt.
   */
  async reserve(payer: Payer, asked: Asked): Promise<Charge> {
    // What is estimated is not certain, and whoever counts it will say so.
    const promptTokens = asked.counted ? Math.floor(asked.promptTokens * SURE_PART) : asked.promptTokens;
    requireContext(payer.context, { ...asked, promptTokens });
    const cost = this.#costOf(payer.model, asked);
    const request = { id: payer.id, tokens: cost.promptTokens + cost.answerTokens };
    return this.#charge(payer, { asked, cost }, await this.#options.accounts.reserve(payer.key, request));
  }

  /** The same for one that an earlier queen took: it is never refused. */
  adopt(payer: Payer, asked: Asked): Charge {
    const cost = this.#costOf(payer.model, asked);
    const request = { id: payer.id, tokens: cost.promptTokens + cost.answerTokens };
    return this.#charge(payer, { asked, cost }, this.#options.accounts.adopt(payer.key, request));
  }

  #costOf(model: string, asked: Asked): Cost {
    const { prompts, choices, answerTokens } = asked;
    const context = this.#contextOf(model);
    // Who has no limits may ask for whatever there is room for; nothing is kept back for that.
    const each = answerTokens ?? (context === Infinity ? DEFAULT_MAX_TOKENS : context);
    return {
      ...{ estimated: asked.promptTokens, promptTokens: this.#promptTokensOf(model, asked) },
      ...{ answerTokens: prompts * choices * Math.min(each, context), prompts, choices },
    };
  }

  /** The largest that a worker of the model has; `Infinity`: it is not known. */
  #contextOf(model: string): number {
    return this.#options.cluster.modelView(model).context ?? Infinity;
  }

  /** With what is known of the model's tokens by now. */
  #promptTokensOf(model: string, { promptTokens }: Asked): number {
    return Math.ceil(promptTokens * (this.#excess.get(model)?.value ?? 1));
  }

  #charge(
    { key, model, context }: Payer,
    what: { asked: Asked; cost: Cost },
    reservation: Reservation,
  ): Charge {
    const { asked, cost } = what;
    return new Charge(cost, reservation, {
      ended: (took) => this.#options.usage.add(key, model, took),
      promptTokens: (tokens) => {
        requireContext(context, { ...asked, promptTokens: tokens });
        // Of short ones most is what the model's template puts around them.
        if (cost.estimated < MEASURED_TOKENS_MIN) return;
        const excess = this.#excess.get(model) ?? new MovingMean(MEAN_WEIGHT);
        this.#excess.set(model, excess);
        excess.add(tokens / cost.estimated);
      },
    });
  }
}

/** What a request may take at most. */
interface Cost extends Pick<Asked, "prompts" | "choices"> {
  /** Tokens of its prompts, by their length alone. */
  readonly estimated: number;
  /** The same by what is known of the model. */
  readonly promptTokens: number;
  /** Of all answers. */
  readonly answerTokens: number;
}

/** Receives what becomes known of a charge. */
interface ChargeListener {
  /**
   * How many tokens the prompt really has.
   *
   * @throws {RbeeError} `INVALID_REQUEST` when its key's requests may not have as many.
   */
  promptTokens(tokens: number): void;
  /** What the request took, if a worker had it. */
  ended(took: Took): void;
}

/** What one request is charged. */
export class Charge {
  readonly #cost: Cost;
  readonly #reservation: Reservation;
  readonly #listener: ChargeListener;
  #progress: RelayProgress | undefined;
  #corrected = false;
  #beganMs: number | undefined;
  #read: number | undefined;

  /** Nothing is taken yet. */
  constructor(cost: Cost, reservation: Reservation, listener: ChargeListener) {
    this.#cost = cost;
    this.#reservation = reservation;
    this.#listener = listener;
  }

  /** A worker has it. `progress` goes on telling how far it comes. */
  began(progress?: RelayProgress): void {
    this.#beganMs ??= performance.now();
    this.#progress = progress ?? this.#progress;
  }

  /**
   * More is known of it: what was reserved for an estimated prompt is now reserved for the true one.
   *
   * @throws {RbeeError} `INVALID_REQUEST` when that is more than its key's requests may have.
   */
  advanced(): void {
    const { promptTokens = 0 } = this.#progress ?? {};
    if (this.#corrected || promptTokens === 0 || this.#cost.prompts > 1) return;
    this.#corrected = true;
    this.#reservation.correct(promptTokens + this.#cost.answerTokens);
    this.#listener.promptTokens(promptTokens);
  }

  /** A worker said how many tokens it has read, and that this is all. */
  read(tokens: number): void {
    this.#read = tokens;
  }

  /** It is over, one way or another. Idempotent. */
  end(): void {
    const took = this.took;
    this.#reservation.settle(took.read + took.made);
    if (this.#beganMs === undefined) return;
    this.#listener.ended(took);
    this.#beganMs = undefined;
  }

  /** Tokens so far. */
  get took(): Took {
    const seconds = this.#beganMs === undefined ? 0 : (performance.now() - this.#beganMs) / 1000;
    const { promptTokens: estimate, prompts, choices } = this.#cost;
    if (this.#read !== undefined) return { read: this.#read, cached: 0, made: 0, seconds };
    const progress = this.#progress;
    if (progress === undefined) {
      return { read: this.#beganMs === undefined ? 0 : estimate, cached: 0, made: 0, seconds };
    }
    const { stats, promptTokens, told } = progress;
    if (stats === undefined) {
      const first = promptTokens === 0 ? estimate : promptTokens;
      return { read: prompts > 1 ? Math.max(first, estimate) : first, cached: 0, made: told, seconds };
    }
    const sum = (of: (one: InferenceStats) => number) => stats.reduce((all, one) => all + of(one), 0);
    return {
      read: Math.round(sum((one) => one.prompt_tokens) / choices),
      cached: Math.round(sum((one) => one.cached_tokens) / choices),
      made: sum((one) => one.total_tokens),
      seconds,
    };
  }
}

/** What an answer beside the relay says of its tokens: `usage` stands at its end, whose length has no bound. */
export function readOf(body: Uint8Array): number | undefined {
  const end = new TextDecoder().decode(body.subarray(-USAGE_BYTES));
  const tokens = /"usage":\{"prompt_tokens":(\d+)/.exec(end)?.[1];
  return tokens === undefined ? undefined : Number(tokens);
}

const USAGE_BYTES = 256;

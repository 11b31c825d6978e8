/** A conversation: what was said, how answers are made, and how it is kept in a file. */
import * as z from "zod";
import { readFlags } from "../../home/flags.ts";
import { ModelRefText } from "../../protocol/model_ref.ts";
import type { ChatMessage, InferenceInput } from "../../protocol/worker_requests.ts";
import type { ModelFacts } from "../../protocol/worker_schemas.ts";
import { UsageError } from "../cli.ts";
import { samplingOf } from "../commands/infer_input.ts";
import { MAX_INPUT_BYTES } from "../limits.ts";
import { SAMPLING, type SamplingFlags } from "../table/shared.ts";

/** The settings that `/set` knows. */
export const SETTINGS = Object.keys(SAMPLING) as (keyof SamplingFlags)[];

const MessageSchema = z.strictObject({ role: z.enum(["user", "assistant"]), content: z.string() });

/** What `/save` writes. */
const ConversationFile = z.strictObject({
  rbee_chat: z.literal(1),
  model: ModelRefText,
  system: z.string().optional(),
  settings: z.record(z.string(), z.union([z.number(), z.array(z.string())])),
  messages: z.array(MessageSchema),
});

/** See the file's head. Its owner is the chat. */
export class Conversation {
  /** What is said to the model beforehand. */
  system: string | undefined;
  /** The reference of the model. */
  model: string;
  readonly #sampling: Partial<SamplingFlags>;
  #messages: ChatMessage[] = [];

  /** Nothing has been said yet. */
  constructor(options: { model: string; system?: string; sampling: Partial<SamplingFlags> }) {
    this.model = options.model;
    this.system = options.system;
    this.#sampling = { ...options.sampling };
  }

  /** How many messages there are. */
  get length(): number {
    return this.#messages.length;
  }

  /** The person said something. It takes the place of a question that was never answered. */
  ask(content: string): void {
    if (this.#messages.at(-1)?.role === "user") this.#messages.pop();
    this.#messages.push({ role: "user", content });
  }

  /** The model said something; what it was cut off in counts as well. */
  answered(content: string): void {
    this.#messages.push({ role: "assistant", content });
  }

  /** Takes the last answer back, if there is one, so that its question can be asked again. False without a question. */
  takeBack(): boolean {
    if (this.#messages.at(-1)?.role === "assistant") this.#messages.pop();
    return this.#messages.at(-1)?.role === "user";
  }

  /** Forgets all that was said. */
  clear(): void {
    this.#messages = [];
  }

  /**
   * Changes a setting; without a value back to the default.
   *
   * @returns what is wrong with it, or undefined.
   */
  set(name: string, value: string | undefined): string | undefined {
    const known = SETTINGS.find((each) => each === name);
    if (known === undefined) return `There is no setting "${name}". Settings: ${SETTINGS.join(", ")}.`;
    if (value === undefined) {
      delete this.#sampling[known];
      return undefined;
    }
    const { flags, problems } = readFlags([`--${known}=${value}`], SAMPLING);
    if (problems.length > 0) return problems[0].replace(/^--/, "");
    Object.assign(this.#sampling, { [known]: flags[known] });
    return undefined;
  }

  /** The settings that differ from the defaults. */
  settings(): [name: string, value: string][] {
    return SETTINGS.flatMap((name): [string, string][] => {
      const value = this.#sampling[name];
      return value === undefined || (Array.isArray(value) && value.length === 0)
        ? []
        : [[name, String(value)]];
    });
  }

  /** What the worker is asked. A model without a chat template goes on with the text as it stands. */
  request(model: ModelFacts): InferenceInput {
    const options = samplingOf(this.#sampling);
    if (model.chat_template) {
      const system: ChatMessage[] = this.system === undefined
        ? []
        : [{ role: "system", content: this.system }];
      return { ...options, messages: [...system, ...this.#messages] };
    }
    const texts = [
      ...this.system === undefined ? [] : [this.system],
      ...this.#messages.map(({ content }) => content),
    ];
    return { ...options, prompt: texts.join("\n\n") };
  }

  /** As a file. */
  toFile(): string {
    const settings = Object.fromEntries(SETTINGS.flatMap((name) => {
      const value = this.#sampling[name];
      return value === undefined ? [] : [[name, value]];
    }));
    const file: z.input<typeof ConversationFile> = {
      ...{ rbee_chat: 1, model: this.model, system: this.system, settings },
      messages: this.#messages.map(({ role, content }) => ({ role: role as "user" | "assistant", content })),
    };
    return `${JSON.stringify(file, null, 2)}\n`;
  }

  /**
   * Takes the place of this one what a file holds.
   *
   * @throws {UsageError} for what is no such file; nothing is changed then.
   */
  fromFile(text: string): void {
    const refuse = (why: string): never => {
      throw new UsageError([`That is no conversation of this program: ${why}`], ["chat"]);
    };
    if (text.length > MAX_INPUT_BYTES) return refuse("it is too large");
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (error) {
      return refuse((error as Error).message);
    }
    const parsed = ConversationFile.safeParse(json);
    if (!parsed.success) return refuse(z.prettifyError(parsed.error));
    const { model, system, settings, messages } = parsed.data;
    const fresh = new Conversation({ model, system, sampling: {} });
    for (const [name, value] of Object.entries(settings)) {
      for (const one of [value].flat()) {
        const problem = fresh.set(name, String(one));
        if (problem !== undefined) return refuse(problem);
      }
      if (Array.isArray(value)) Object.assign(fresh.#sampling, { [name]: value });
    }
    this.model = model;
    this.system = system;
    this.#messages = messages;
    for (const name of SETTINGS) delete this.#sampling[name];
    Object.assign(this.#sampling, fresh.#sampling);
  }
}

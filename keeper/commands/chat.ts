/** `chat`: many prompts in, as many answers out, until Ctrl+D (SPEC §8). */
import type { LoadedConfig } from "../../home/config.ts";
import { hiveLogPath, PRIVATE_FILE_MODE } from "../../home/paths.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import type { DoneEvent } from "../../protocol/worker_schemas.ts";
import { Conversation, SETTINGS } from "../chat/conversation.ts";
import { addToHistory, readHistory, trimHistory } from "../chat/history_file.ts";
import { type ChatInput, pipedInput, terminalInput } from "../chat/input.ts";
import { completeSlash, parseSlash, SLASH_COMMANDS, type SlashName } from "../chat/slash_commands.ts";
import { type LoadedCommand, UsageError } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import type { Place } from "../explain.ts";
import { reportFailure, withPlace } from "../failure.ts";
import { Interrupted, INTERRUPTED_EXIT_CODE } from "../interrupt.ts";
import { LOCALHOST, type ResolvedNode, resolveNode } from "../node.ts";
import type { Output } from "../output.ts";
import { answer } from "../phases/answer.ts";
import { placeOfQueen, type QueenAddress, queenOf } from "../queen.ts";
import { openRegistry, type Registry } from "../registry.ts";
import type { ChatFlags } from "../table/chat.ts";
import { attachment, readTextFile, spawnRequest } from "./infer_input.ts";
import { checkModelFlag } from "./model_flag.ts";
import { withConfig } from "../with_config.ts";

/** The command. */
export const CHAT: LoadedCommand<ChatFlags> = { check: checkModelFlag, run: runChat, ownInterrupts: true };

async function runChat({ output }: CommandContext, flags: ChatFlags): Promise<number> {
  return await withConfig(async (config) => {
    const queen = await queenOf(flags, config);
    // Names of machines are the queen's where there is one.
    const node = await resolveNode(queen === undefined ? flags.node : LOCALHOST, config);
    const conversation = new Conversation({
      model: parseModelRef(flags.model ?? config.config.keeper.model).text,
      system: flags.system,
      sampling: flags,
    });
    if (flags.load !== undefined) conversation.fromFile(await readTextFile("--load", flags.load));
    using registry = await openRegistry(config.home);
    const history = Deno.stdin.isTerminal() ? await readHistory(config.home) : [];
    const input = Deno.stdin.isTerminal()
      ? await terminalInput({ history, complete: (line) => completeSlash(line, SETTINGS) })
      : pipedInput(Deno.stdin.readable);
    const chat = new Chat({ flags, config, node, queen, conversation, registry, input, output });
    try {
      return await chat.run();
    } finally {
      await trimHistory(config.home);
    }
  });
}

interface ChatParts {
  flags: ChatFlags;
  config: LoadedConfig;
  node: ResolvedNode;
  queen: QueenAddress | undefined;
  conversation: Conversation;
  registry: Registry;
  input: ChatInput;
  output: Output;
}

/** One chat and what it is in the middle of. */
class Chat {
  readonly #parts: ChatParts;
  #node: ResolvedNode;
  #stats: boolean;
  #attached = "";
  /** Ends the answer that is coming. */
  #stop: AbortController | undefined;
  /** The conversation's file: what this chat has read or written it may write again. */
  #ownFile: string | undefined;
  #exitCode = 0;

  constructor(parts: ChatParts) {
    this.#parts = parts;
    this.#node = parts.node;
    this.#stats = parts.flags.stats;
    this.#ownFile = parts.flags.load;
  }

  async run(): Promise<number> {
    const { input, output, conversation, queen } = this.#parts;
    const onInterrupt = () => this.#interrupt();
    Deno.addSignalListener("SIGINT", onInterrupt);
    try {
      if (input.interactive) {
        output.say(
          `Talking to ${conversation.model} ${
            queen === undefined ? `on ${this.#node.name}` : `by way of ${queen.url}`
          }. /help lists the commands, Ctrl+D leaves.`,
        );
      }
      for (;;) {
        const heard = await input.next();
        if (heard.kind === "end") {
          // The shell's prompt is to have a line of its own.
          if (input.interactive) output.insist("");
          break;
        }
        if (heard.kind === "interrupt") {
          output.say("(Ctrl+D leaves.)");
        } else if (!await this.#take(heard.text)) {
          break;
        }
      }
    } finally {
      Deno.removeSignalListener("SIGINT", onInterrupt);
    }
    return this.#exitCode;
  }

  /** False when the chat is over. */
  async #take(text: string): Promise<boolean> {
    const { input, output, config } = this.#parts;
    if (text.trim() === "") return true;
    if (input.interactive) await addToHistory(config.home, text);
    const command = parseSlash(text);
    if (command === undefined) {
      await this.#say(`${this.#attached}${text}`);
    } else if ("problem" in command) {
      this.#failed();
      output.error(command.problem);
    } else if (command.name === "exit") {
      return false;
    } else {
      await this.#do(command.name, command.rest).catch((error) => this.#report(error));
    }
    return true;
  }

  /** One question and its answer. What goes wrong is told, and the chat goes on. */
  async #say(question: string): Promise<void> {
    const { conversation } = this.#parts;
    conversation.ask(question);
    await this.#answer();
  }

  async #answer(): Promise<void> {
    const { flags, config, conversation, registry, output } = this.#parts;
    const stop = this.#stop = new AbortController();
    const { queen } = this.#parts;
    const node = queen === undefined ? this.#node : placeOfQueen(queen);
    const place: Place = { configPath: config.path, hiveLog: hiveLogPath(config.home), node };
    let text = "";
    try {
      const done = await withPlace(place, () =>
        answer({
          ...{ config, registry, queen, node: this.#node, retries: flags.retry },
          wish: {
            node: this.#node.name,
            request: spawnRequest({ ...flags, model: conversation.model }, conversation.model),
          },
          requestFor: (model) => conversation.request(model),
          onEvent: async (event) => {
            if (!("token" in event)) return;
            text += event.token;
            await output.answer(event.token);
          },
        }, { output, signal: stop.signal, correlationId: newCorrelationId() }));
      conversation.answered(text);
      this.#attached = "";
      await output.endText();
      if (this.#stats) output.insist(statsOf(done));
    } catch (error) {
      await output.endText();
      // What came before the end is part of the conversation.
      if (text !== "") conversation.answered(text);
      await this.#report(error);
    } finally {
      this.#stop = undefined;
    }
  }

  async #report(error: unknown): Promise<void> {
    const { output, input } = this.#parts;
    if (error instanceof Deno.errors.BrokenPipe) throw error;
    if (error instanceof Interrupted) return output.insist(error.message);
    this.#failed();
    if (error instanceof UsageError) return output.error(error.problems.join(" "));
    await reportFailure(error, output);
    if (input.interactive) output.say("/retry asks again.");
  }

  /** A pipe has nobody who reads what went wrong but the exit code. */
  #failed(): void {
    if (!this.#parts.input.interactive) this.#exitCode = 1;
  }

  /** The first one stops the answer, the second one leaves at once. */
  #interrupt(): void {
    if (this.#stop !== undefined && !this.#stop.signal.aborted) {
      this.#stop.abort(new Interrupted());
      return;
    }
    this.#parts.output.restore();
    Deno.exit(INTERRUPTED_EXIT_CODE);
  }

  async #do(name: Exclude<SlashName, "exit">, rest: string): Promise<void> {
    const { conversation, config, output } = this.#parts;
    switch (name) {
      case "help":
        for (const { name, args, help } of SLASH_COMMANDS) {
          output.insist(`  ${`/${name} ${args}`.padEnd(22)} ${help}`);
        }
        return;
      case "model":
        if (rest !== "") conversation.model = parseModelRef(rest).text;
        return output.insist(`Model: ${conversation.model}`);
      case "node":
        if (this.#parts.queen !== undefined) return this.#queensNode(rest);
        if (rest !== "") this.#node = await resolveNode(rest, config);
        return output.insist(`Node: ${this.#node.name} (${this.#node.url})`);
      case "system":
        if (rest !== "") conversation.system = rest === "-" ? undefined : rest;
        return output.insist(
          conversation.system === undefined
            ? "The model is told nothing beforehand."
            : `System: ${conversation.system}`,
        );
      case "set":
        return this.#set(rest);
      case "file":
        this.#attached += attachment(rest, await readTextFile("/file", rest));
        return output.insist(`${rest} comes before your next message.`);
      case "retry":
        if (!conversation.takeBack()) return output.insist("There is no question to ask again.");
        return await this.#answer();
      case "clear":
        conversation.clear();
        this.#attached = "";
        return output.insist("What was said is forgotten.");
      case "save":
        return await this.#save(rest);
      case "load":
        conversation.fromFile(await readTextFile("/load", rest));
        this.#ownFile = rest;
        return output.insist(`Going on with ${conversation.length} messages and ${conversation.model}.`);
      case "stats":
        this.#stats = !this.#stats;
        return output.insist(
          this.#stats ? "Each answer says how fast it was." : "Answers no longer say how fast they were.",
        );
    }
  }

  #queensNode(name: string): void {
    const { queen, output } = this.#parts;
    if (name !== "") queen!.node = name === "-" ? undefined : name;
    output.insist(`Node: ${queen!.node ?? "wherever the queen says; /node NAME asks for one"}`);
  }

  #set(rest: string): void {
    const { conversation, output } = this.#parts;
    const [name, ...value] = rest.split(/\s+/);
    if (name !== "") {
      const problem = conversation.set(name, value.length === 0 ? undefined : rest.slice(name.length).trim());
      if (problem !== undefined) {
        this.#failed();
        return output.error(problem);
      }
    }
    const settings = conversation.settings();
    if (settings.length === 0) {
      return output.insist(`All settings are at their defaults: ${SETTINGS.join(", ")}.`);
    }
    for (const [each, shown] of settings) output.insist(`  ${each} = ${shown}`);
  }

  async #save(path: string): Promise<void> {
    const { conversation, output } = this.#parts;
    const options = { mode: PRIVATE_FILE_MODE, createNew: path !== this.#ownFile };
    try {
      await Deno.writeTextFile(path, conversation.toFile(), options);
    } catch (error) {
      const why = error instanceof Deno.errors.AlreadyExists
        ? "is there already: choose another name"
        : "cannot be written";
      throw new UsageError([`/save ${path}: it ${why}.`], ["chat"]);
    }
    this.#ownFile = path;
    output.insist(`Saved ${conversation.length} messages to ${path}.`);
  }
}

function statsOf(done: DoneEvent): string {
  const { total_tokens, tokens_per_second, time_to_first_token_ms, prompt_tokens, cached_tokens } = done;
  return `${total_tokens} tokens, ${tokens_per_second.toFixed(1)} tokens/s, the first after ${
    Math.round(time_to_first_token_ms)
  } ms; ${prompt_tokens} tokens read, ${cached_tokens} of them from the cache`;
}

/** Answers of a queen, by each of the ways that clients have, as what they say: ids and times of an answer left out. */
import type { QueenClient } from "../../protocol/queen_client.ts";
import { readEvents } from "../../protocol/sse.ts";
import { CLUSTER_KEY } from "./cluster.ts";

/** A way to ask. */
export interface Way {
  readonly name: string;
  /** Asks; `onPiece` is told of each piece of text. Resolves with all that was said, in words to be compared. */
  ask(what: Asked, onPiece?: (count: number) => void | Promise<void>): Promise<string>;
}

/** What is asked. */
export interface Asked {
  readonly model: string;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly seed: number;
  readonly temperature: number;
}

/** All ways, through one queen. */
export function waysOf(queen: { url: string; client: QueenClient }): Way[] {
  return [
    {
      name: "task",
      async ask({ maxTokens, ...asked }, onPiece) {
        const { events } = await queen.client.run({ ...asked, max_tokens: maxTokens });
        const said: string[] = [];
        for await (const event of events) {
          if (event.type === "error") throw new Error(`${event.error.code}: ${event.error.message}`);
          if (event.type === "end") {
            return `${said.join("")}|${event.stats.stop_reason} ${event.stats.total_tokens}`;
          }
          if (event.type !== "token") continue;
          if (event.index !== said.length) {
            throw new Error(`token ${event.index} came as the ${said.length}th`);
          }
          said.push(event.token);
          await onPiece?.(said.length);
        }
        throw new Error("The events of the task have no end.");
      },
    },
    streamed(queen, {
      name: "chat",
      path: "/v1/chat/completions",
      body: ({ prompt, ...rest }) => ({ ...wire(rest), messages: [{ role: "user", content: prompt }] }),
      text: (event) => event.choices?.[0]?.delta?.content ?? "",
      end: (event) => event.choices?.[0]?.finish_reason ?? undefined,
    }),
    streamed(queen, {
      name: "completion",
      path: "/v1/completions",
      body: ({ prompt, ...rest }) => ({ ...wire(rest), prompt }),
      text: (event) => event.choices?.[0]?.text ?? "",
      end: (event) => event.choices?.[0]?.finish_reason ?? undefined,
    }),
    {
      name: "whole chat",
      async ask({ prompt, ...rest }) {
        const response = await fetch(`${queen.url}/v1/chat/completions`, {
          method: "POST",
          headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
          body: JSON.stringify({
            ...wire(rest),
            stream: false,
            messages: [{ role: "user", content: prompt }],
          }),
        });
        const body = await response.json();
        if (!response.ok) throw new Error(`${response.status} ${JSON.stringify(body)}`);
        const [{ message, finish_reason }] = body.choices;
        return `${message.content}|${finish_reason} ${body.usage.completion_tokens}`;
      },
    },
  ];
}

function wire({ model, maxTokens, seed, temperature }: Omit<Asked, "prompt">) {
  return { model, max_tokens: maxTokens, seed, temperature, stream: true };
}

// deno-lint-ignore no-explicit-any -- the shapes of others
type Loose = any;

function streamed(
  queen: { url: string },
  how: {
    name: string;
    path: string;
    body: (asked: Asked) => Record<string, unknown>;
    text: (event: Loose) => string;
    end: (event: Loose) => string | undefined;
  },
): Way {
  return {
    name: how.name,
    async ask(asked, onPiece) {
      const response = await fetch(`${queen.url}${how.path}`, {
        method: "POST",
        headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
        body: JSON.stringify(how.body(asked)),
      });
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      const said: string[] = [];
      let end: string | undefined;
      for await (const event of readEvents(response.body!)) {
        const { error } = event as Loose;
        if (error !== undefined) throw new Error(JSON.stringify(error));
        const text = how.text(event);
        if (text !== "") {
          said.push(text);
          await onPiece?.(said.length);
        }
        end ??= how.end(event);
      }
      return `${said.join("")}|${end}`;
    },
  };
}

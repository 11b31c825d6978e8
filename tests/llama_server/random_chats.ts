/** Chat requests made up from a seed: turns, tools, calls and their results, schemas. */
import { seededRandom } from "../helpers/gguf_weights.ts";

/** A request as OpenAI's API has it. */
export interface ChatRequest {
  messages: Record<string, unknown>[];
  [field: string]: unknown;
}

const WORDS =
  'the bee looked for honey in a garden behind our house and found 3 flowers, "two" of them ä 日本 🐝'.split(
    " ",
  );
const NAMES = ["get_weather", "python", "search_web", "add"];

/** Picks. */
export class Choices {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  below(count: number): number {
    return this.#random() % count;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  one<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }

  text(): string {
    return Array.from({ length: 1 + this.below(8) }, () => this.one(WORDS)).join(" ");
  }
}

/** The tool that the recited call is of. */
export const CALLED_TOOL = tool("get_weather", {
  place: { type: "string", description: "Where" },
  days: { type: "integer" },
}, ["place"]);

/** And how it is called. */
export const CALL_ARGUMENTS = { place: "Paris, 日本", days: 3 };

function tool(name: string, properties: Record<string, unknown>, required: string[]) {
  return {
    type: "function",
    function: { name, description: `Does ${name}.`, parameters: { type: "object", properties, required } },
  };
}

/** One request. */
export function randomChat(choices: Choices): ChatRequest {
  const withTools = choices.chance(60);
  const messages: Record<string, unknown>[] = [];
  if (choices.chance(50)) messages.push({ role: "system", content: choices.text() });
  const turns = 1 + choices.below(3);
  for (let turn = 1; turn <= turns; turn++) {
    messages.push({ role: "user", content: content(choices) });
    if (turn === turns) break;
    if (withTools && choices.chance(60)) messages.push(...callAndResult(choices));
    messages.push({ role: "assistant", content: choices.text() });
  }
  return { messages, ...withTools ? toolFields(choices) : schemaFields(choices) };
}

function content(choices: Choices): unknown {
  if (choices.chance(80)) return choices.text();
  return [{ type: "text", text: choices.text() }, { type: "text", text: choices.text() }];
}

/** A call has an id that is long and short enough for every template. */
function callAndResult(choices: Choices): Record<string, unknown>[] {
  const id = `call${10_000 + choices.below(80_000)}`;
  const args = { place: choices.text(), days: choices.below(9) };
  return [
    {
      role: "assistant",
      content: choices.chance(50) ? "" : choices.text(),
      tool_calls: [{
        id,
        type: "function",
        function: { name: "get_weather", arguments: JSON.stringify(args) },
      }],
    },
    { role: "tool", tool_call_id: id, name: "get_weather", content: choices.text() },
  ];
}

function toolFields(choices: Choices) {
  const others = NAMES.slice(1).filter(() => choices.chance(30)).map((name) =>
    tool(name, {
      [choices.one(["code", "query", "a"])]: { type: choices.one(["string", "number", "boolean"]) },
    }, [])
  );
  return {
    tools: [CALLED_TOOL, ...others],
    tool_choice: choices.one(["auto", "auto", "auto", "required", "none"]),
    ...choices.chance(30) ? { parallel_tool_calls: choices.chance(50) } : {},
  };
}

function schemaFields(choices: Choices) {
  if (choices.chance(70)) return {};
  const properties = { place: { type: "string" }, days: { type: "integer" } };
  const schema = { type: "object", properties, required: ["place", "days"] };
  return { response_format: { type: "json_schema", json_schema: { name: "x", schema } } };
}

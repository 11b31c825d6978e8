/** What a request can bring about in native code ends by itself, and its neighbours go on. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { InferenceStats } from "../protocol/worker_schemas.ts";
import { RbeeError } from "../protocol/errors.ts";
import { type InferenceInput, InferenceRequest } from "../protocol/worker_requests.ts";
import { chatTemplate } from "../tests/helpers/chat_templates.ts";
import { entryAt, foundCount } from "../tests/hostile/corpus.ts";
import { answer, complete, loadEngine } from "../tests/helpers/engine.ts";
import { STORIES } from "../tests/helpers/test_models.ts";
import { type Delta, MessageBuilder, readerFor } from "./apis/chat_reader.ts";
import type { Engine } from "./engine.ts";
import type { NativeSequence } from "./native/addon.ts";

async function withEngine(work: (engine: Engine) => Promise<void>, template?: string): Promise<void> {
  const engine = await loadEngine(STORIES, { chatTemplate: template });
  try {
    await work(engine);
  } finally {
    await engine.close();
  }
}

const SLOW_GRAMMARS: Record<string, string> = {
  "a class that is optional a thousand times": "root ::= ([^\\x00]?){1000}",
  "optional letters one after the other": `root ::= ${'"a"? '.repeat(700)}"b"`,
  "rules that double": Array.from({ length: 40 }, (_, i) => `r${i} ::= r${i + 1} "a" | r${i + 1} "b"`)
    .concat('r40 ::= "c"', "root ::= r0").join("\n"),
};

for (const [name, grammar] of Object.entries(SLOW_GRAMMARS)) {
  Deno.test(`${name} end their answer alone, as the caller's mistake`, () =>
    withEngine(async (engine) => {
      const plain: InferenceInput = { prompt: "Once", temperature: 0, max_tokens: 200 };
      const alone = await answer(engine, plain);
      const neighbour = answer(engine, plain);
      const error = await assertRejects(
        () => answer(engine, { prompt: "x", temperature: 1, max_tokens: 400, grammar }),
        RbeeError,
      );
      assertEquals(error.code, "INVALID_REQUEST");
      assertStringIncludes(error.message, "The grammar takes too");
      assertEquals((await neighbour).text, alone.text);
      assertEquals(engine.slotsAvailable, engine.slots);
    }));
}

for (
  const [name, bad] of Object.entries<Partial<InferenceInput>>({
    "a repetition whose maximum is less than its minimum": { grammar: 'root ::= "a"{2,1}' },
    "the same out of a schema's lengths": { json_schema: { type: "string", minLength: 3, maxLength: 2 } },
    "the same out of a schema's pattern": { json_schema: { type: "string", pattern: "^(ab){3,2}$" } },
    "the same out of a list": {
      json_schema: { type: "array", items: { type: "null" }, minItems: 9, maxItems: 7 },
    },
    "a grammar that nothing satisfies": { grammar: "root ::= a root\na ::= b\nb ::= " },
  })
) {
  Deno.test(`${name} is refused before anything is built`, () =>
    withEngine(async (engine) => {
      const error = await assertRejects(() => answer(engine, { prompt: "x", ...bad }), RbeeError);
      assertEquals(error.code, "INVALID_REQUEST");
    }));
}

for (const grammar of ["root ::= [z-a]+", 'root ::= "Once" [z-a]', "root ::= <[2147483648]>"]) {
  Deno.test(`a grammar that no token satisfies ends its answer as the caller's mistake: ${grammar}`, () =>
    withEngine(async (engine) => {
      const error = await assertRejects(
        () => answer(engine, { prompt: "x", grammar, max_tokens: 20 }),
        RbeeError,
      );
      assertEquals([error.code, engine.slotsAvailable], ["INVALID_REQUEST", engine.slots], error.message);
    }));
}

Deno.test("a text of which a vocabulary has only beginnings of words comes to an end", async () => {
  const entry = Array.from({ length: foundCount("A10") }, (_, index) => entryAt("A10", { seed: 1, index }))
    .find(({ name }) => name === "words for a tokeniser that wants bytes");
  assert(entry?.act === "model");
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    await Deno.writeFile(path, entry.file());
    const engine = await loadEngine(path);
    const signal = new AbortController().signal;
    const tokenised = engine.tokenize("<0x", { addSpecial: false, parseSpecial: false, limit: 10, signal });
    const error = await tokenised.then(() => undefined, (error) => error);
    assert(
      error === undefined || (error instanceof RbeeError && error.code === "INVALID_REQUEST"),
      String(error),
    );
    await engine.close();
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("what a literal, a class or a comment says is no repetition", () =>
  withEngine(async (engine) => {
    const grammar = 'root ::= "{2,1}" [{2,1}] # "{2,1}\n';
    const { text } = await answer(engine, { prompt: "x", grammar, max_tokens: 100 });
    assert(text.startsWith("{2,1}") && text.length === 6, text);
  }));

for (
  const [name, template] of Object.entries({
    "turns without end": "{% for i in range(1000000000) %}x{% endfor %}",
    "a text that doubles":
      "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "eight thousand conditions": "{% if x %}".repeat(8000) + "{% endif %}".repeat(8000),
  })
) {
  Deno.test(`a chat template of ${name} is refused at load or at each conversation`, async () => {
    const messages = [{ role: "user" as const, content: "Hello." }];
    let engine: Engine | undefined;
    try {
      engine = await loadEngine(STORIES, { chatTemplate: template });
      await engine.renderChat({ messages }, new AbortController().signal);
    } catch (error) {
      assert(error instanceof RbeeError && error.code === "INVALID_REQUEST", String(error));
    } finally {
      await engine?.close();
    }
  });
}

Deno.test("a conversation that is canceled while it is rendered gives its slot back", async () => {
  const template = "{% if messages | length > 40 %}{% for i in range(1000000) %}{% for j in range(1000) %}" +
    "{% endfor %}{% endfor %}{% endif %}{{ messages | length }}";
  await withEngine(async (engine) => {
    const messages = Array.from({ length: 41 }, () => ({ role: "user" as const, content: "Hello." }));
    const ended = Promise.withResolvers<InferenceStats>();
    const sink = { tokens: () => {}, done: ended.resolve, failed: ended.reject };
    const generation = engine.generate({ ...DEFAULT_WORK, prompt: undefined, messages }, sink);
    generation.cancel("canceled");
    await generation.accepted;
    assertEquals((await ended.promise).stop_reason, "canceled");
    assertEquals(engine.slotsAvailable, engine.slots);
  }, template);
});

const DEFAULT_WORK = InferenceRequest.parse({ prompt: "x" });

/** Exports an answer after some tokens. */
async function exported(engine: Engine, input: InferenceInput): Promise<NativeSequence> {
  let state: Promise<NativeSequence | undefined> | undefined;
  await answer(engine, input, (tokens, generation) => {
    if (tokens.length >= 10) state ??= generation.export({ kv: true, stop: true });
  });
  return (await state)!;
}

Deno.test("a state whose lengths lie is not taken over, and the answer goes on as it was", () =>
  withEngine(async (engine) => {
    const input: InferenceInput = { prompt: "Once upon a time", temperature: 0, max_tokens: 40 };
    const whole = await answer(engine, input);
    const good = await exported(engine, input);
    const patched = (at: number, value: number) => {
      const kv = good.kv.slice();
      new DataView(kv.buffer).setInt32(at, value, true);
      return kv;
    };
    const cellsAt = 12;
    const layersAt = cellsAt + 4 + 12 * good.kvTokens + 4;
    const states: Record<string, Uint8Array<ArrayBuffer>> = {
      "as it was": good.kv,
      "more cells than there is memory": patched(cellsAt, 0x7fffffff),
      "more layers than there are": patched(layersAt, 1 << 30),
      "a position that is none": patched(cellsAt + 4, -5),
      "cut short": good.kv.slice(0, good.kv.length / 2),
      "nothing but its beginning": good.kv.slice(0, 13),
    };
    for (const [name, kv] of Object.entries(states)) {
      const { text } = await complete(engine, { ...DEFAULT_WORK, temperature: 0, resume: { ...good, kv } });
      assert(whole.text.endsWith(text) && text.length > 0, `${name}: ${text}`);
    }
  }));

/** Deltas of a text given in pieces, put together. */
function read(
  chat: Parameters<typeof readerFor>[0],
  pieces: readonly string[],
): [MessageBuilder["message"], Delta[][]] {
  const reader = readerFor(chat, "x");
  const builder = new MessageBuilder();
  const all: Delta[][] = [];
  for (const piece of pieces) all.push(reader.push(piece, false));
  all.push(reader.push("", true));
  for (const deltas of all) builder.add(deltas);
  return [builder.message, all];
}

Deno.test("a long call is read as it grows, alike however it is cut", async () => {
  const template = await Deno.readTextFile(chatTemplate("Qwen-Qwen3-0.6B"));
  await withEngine(async (engine) => {
    const chat = await engine.renderChat({
      messages: [{ role: "user", content: "Write." }],
      tools: [{
        type: "function",
        function: { name: "write", parameters: { type: "object", properties: { text: { type: "string" } } } },
      }],
    } as never, new AbortController().signal);
    const text = '<tool_call>\n{"name": "write", "arguments": {"text": "' + "lorem ipsum 🐝 ".repeat(2000) +
      '"}}\n</tool_call>';
    const [whole] = read(chat, [text]);
    assertEquals(whole.calls.length, 1);
    for (const length of [7, 100, 5000]) {
      const characters = [...text];
      const pieces = Array.from(
        { length: Math.ceil(characters.length / length) },
        (_, i) => characters.slice(i * length, (i + 1) * length).join(""),
      );
      const [message, deltas] = read(chat, pieces);
      assertEquals(message, whole);
      // Told on the way, not at the end.
      const told = deltas.slice(0, -1).flat().map((delta) => delta.tool?.arguments.length ?? 0);
      assert(told.reduce((sum, count) => sum + count, 0) > 0.9 * whole.calls[0].arguments.length);
    }
  }, template);
});

/** A9 and A10: model files whose chat template or vocabulary is hostile, and what such a model is asked. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { withValue } from "../helpers/gguf_damage.ts";
import { encodeGguf, ggufArray, type GgufParts, ggufScalar } from "../helpers/gguf_format.ts";
import { llamaVocab } from "../helpers/gguf_vocab.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "../helpers/gguf_writer.ts";
import { type Draw, repeated } from "./draw.ts";
import type { ModelEntry } from "./entry.ts";
import { SCRIPTS } from "./texts.ts";

const HELLO = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}";

/** Opening and closing of blocks and brackets that can stand in each other. */
const NESTS: readonly (readonly [open: string, close: string])[] = [
  ["{% if true %}", "{% endif %}"],
  ["{% if false %}{% else %}", "{% endif %}"],
  ["{% for a in [1] %}", "{% endfor %}"],
  ["{% set x %}", "{% endset %}"],
  ["{% macro m() %}", "{% endmacro %}"],
  ["{% filter upper %}", "{% endfilter %}"],
  ["{% generation %}", "{% endgeneration %}"],
  ["{{ (", ") }}"],
];
const BRACKETS: readonly (readonly [open: string, close: string])[] = [
  ["(", ")"],
  ["[", "]"],
  ["{'a':", "}"],
  ["not ", ""],
  ["-", ""],
  ["range(", ")"],
  ["1 + (", ")"],
  ["'a' if true else (", ")"],
  ["1 ~ (", ")"],
];

const TEMPLATES: Readonly<Record<string, (draw: Draw) => string>> = {
  long_loop: (draw) =>
    `{% for i in range(${draw.size(1_000, 2 ** 31)}) %}${draw.pick(["", "x", "{{ i }}"])}{% endfor %}`,
  loops: (draw) => {
    const depth = draw.integer(2, 6);
    const times = draw.size(10, 100_000);
    return `${`{% for i in range(${times}) %}`.repeat(depth)}${draw.pick(["", "x"])}${
      "{% endfor %}".repeat(depth)
    }`;
  },
  loop_over_messages: (draw) =>
    `{% for m in messages %}${"{% for n in messages %}".repeat(draw.integer(1, 8))}x${
      "{% endfor %}".repeat(1)
    }{% endfor %}`,
  doubling_text: (draw) =>
    `{% set ns = namespace(x='a') %}{% for i in range(${draw.size(8, 200)}) %}{% set ns.x = ns.x ${
      draw.pick(["+", "~"])
    } ns.x %}{% endfor %}${draw.pick(["", "{{ ns.x }}"])}`,
  doubling_list: (draw) =>
    `{% set ns = namespace(x=[1]) %}{% for i in range(${
      draw.size(8, 200)
    }) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}`,
  multiplied_text: (draw) => `{{ 'abc' * ${draw.size(1_000, 2 ** 40)} }}`,
  replaced_text: (draw) =>
    `{% set ns = namespace(x='aaaa') %}{% for i in range(${
      draw.size(4, 60)
    }) %}{% set ns.x = ns.x | replace('a', 'aa') %}{% endfor %}`,
  joined_text: (draw) =>
    `{{ range(${draw.size(1_000, 2 ** 31)}) | join('${repeated("x", draw.size(1, 1_000))}') }}`,
  wide_text: (draw) =>
    `{{ 'a' | ${draw.pick(["indent", "center", "wordwrap", "truncate"])}(${draw.size(1_000, 2 ** 31)}) }}`,
  listed: (draw) => `{{ (range(${draw.size(1_000, 2 ** 31)}) | list) | length }}`,
  deep_blocks: (draw) => nest(draw.pick(NESTS), draw.size(10, 50_000), "x"),
  deep_mixed_blocks: (draw) => {
    const chosen = draw.list(draw.size(10, 20_000), () => draw.pick(NESTS.slice(0, 3)));
    return chosen.map(([open]) => open).join("") + "x" + chosen.reverse().map(([, close]) => close).join("");
  },
  deep_brackets: (draw) => `{{ ${nest(draw.pick(BRACKETS), draw.size(10, 100_000), "1")} }}`,
  unclosed_blocks: (draw) => draw.pick(NESTS)[0].repeat(draw.size(10, 50_000)),
  long_sum: (draw) => `{{ ${"'a' + ".repeat(draw.size(10, 100_000))}'b' }}`,
  long_filters: (draw) => `{{ 'a' ${"| upper ".repeat(draw.size(10, 100_000))} }}`,
  long_members: (draw) => `{{ messages${draw.pick(["[0]", ".a", "['a']"]).repeat(draw.size(10, 100_000))} }}`,
  long_conditions: (draw) => `{% if ${"true and ".repeat(draw.size(10, 100_000))}false %}x{% endif %}`,
  else_ifs: (draw) => `{% if false %}${"{% elif false %}x".repeat(draw.size(10, 30_000))}{% endif %}`,
  recursion: (draw) =>
    draw.pick([
      "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
      "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}",
      "{% for item in messages recursive %}{{ loop(messages) }}{% endfor %}",
    ]),
  own_list: () => "{% set ns = namespace(x=[]) %}{% set ns.x = [ns] %}{{ ns.x }}{{ ns | tojson }}",
  raised: (draw) =>
    `{{ raise_exception('${
      repeated(draw.pick(["a", "\\u001b[31m", "%s", "😀"]), draw.size(1, 100_000))
    }') }}`,
  long_template: (draw) =>
    repeated(draw.pick([HELLO, "text ", "{# note #}", "{{ '' }}"]), draw.size(100, 3_000_000)),
  odd: (draw) =>
    draw.pick([
      "{{",
      "{%",
      "{% endif %}",
      "{{ messages[99999999999999999999] }}",
      "{{ 1 / 0 }}",
      "{{ 1 % 0 }}",
      "{{ 'a'[2147483648] }}",
      "{{ messages[-9999:99999999999:0] }}",
      "{{ '%s' % 5 }}",
      "{{ none.a.b }}",
      "{{ -9223372036854775808 / -1 }}",
      "{{ 2 ** 1000000 }}",
      "\u0000",
      "{% set messages = 5 %}{{ messages }}",
    ]),
  random: (draw) =>
    draw.text([
      "{% if x %}",
      "{% endif %}",
      "{% else %}",
      "{% for m in messages %}",
      "{% endfor %}",
      "{{ m }}",
      "{{ messages }}",
      "{% set x = 1 %}",
      "{{ x | tojson }}",
      "{# ",
      " #}",
      "{{",
      "}}",
      "{%",
      "%}",
      "-",
      "(",
      ")",
      "'",
      "text ",
    ], draw.size(10, 3_000)),
  arguments: (draw) =>
    `{% for i in range(times | default(0)) %}${
      draw.pick(["x", "{{ i }}", ""])
    }{% endfor %}{{ pad | default('') }}`,
  tool_loop: (draw) =>
    `${HELLO}{% if tools %}{% for t in tools %}{% for i in range(${
      draw.size(100, 2 ** 31)
    }) %}x{% endfor %}{% endfor %}{% endif %}`,
  when_answering: (draw) =>
    `${HELLO}{% if add_generation_prompt %}{% for i in range(${
      draw.size(100, 2 ** 31)
    }) %}x{% endfor %}{% endif %}`,
};

const MESSAGES = [{ role: "user", content: "Hello." }];

/** What every model with a template is asked. */
function templateRequests(draw: Draw): ModelEntry["requests"] {
  return [
    { path: FOREIGN_ROUTES.applyTemplate.path, body: { messages: MESSAGES } },
    {
      path: FOREIGN_ROUTES.chatCompletions.path,
      body: {
        messages: Array(draw.size(1, 60)).fill(MESSAGES[0]),
        max_tokens: 2,
        chat_template_kwargs: { times: draw.size(100, 2 ** 31), pad: "x".repeat(draw.size(1, 1_000)) },
        ...draw.chance(50) ? { tools: [{ type: "function", function: { name: "f", parameters: {} } }] } : {},
      },
    },
    { path: WORKER_ROUTES.inference.path, body: { prompt: "Hello", max_tokens: 2 } },
  ];
}

/** A9: a model whose chat template is hostile. */
export function drawTemplate(draw: Draw): ModelEntry {
  const what = draw.pick(Object.keys(TEMPLATES));
  return templateEntry(what, TEMPLATES[what](draw), draw);
}

/** A model with this template. */
export function templateEntry(name: string, chatTemplate: string, draw: Draw): ModelEntry {
  return {
    act: "model",
    name,
    right: "either",
    file: () => bytesOf(llamaGgufParts({ ...TINIEST_LLAMA, chatTemplate })),
    requests: templateRequests(draw),
  };
}

const { vocab } = TINIEST_LLAMA;
const FIRST_BYTE_TOKEN = 3;

type Damage = (good: GgufParts, draw: Draw) => GgufParts;

const VOCABULARIES: Readonly<Record<string, Damage>> = {
  byte_renamed: (good, draw) =>
    withTokens(
      good,
      (tokens) => tokens.with(FIRST_BYTE_TOKEN + draw.integer(0, 255), `renamed ${draw.integer(0, 99)}`),
    ),
  bytes_renamed: (good, draw) =>
    withTokens(good, (tokens) => tokens.map((token, i) => draw.chance(50) ? `x${i}` : token)),
  bytes_swapped: (good) =>
    withTokens(
      good,
      (tokens) => [...tokens.slice(0, 3), ...tokens.slice(3, 259).reverse(), ...tokens.slice(259)],
    ),
  no_token_types: (good, draw) => withTypes(good, () => draw.integer(0, 7)),
  types_at_random: (good, draw) =>
    withTypes(
      good,
      (type) => draw.chance(30) ? draw.pick([-1, 0, 1, 2, 3, 4, 5, 6, 7, 77, 2 ** 31 - 1]) : type,
    ),
  types_of_bytes: (good, draw) => withTypes(good, (type, i) => i >= 259 && draw.chance(50) ? 6 : type),
  scores: (good, draw) =>
    withValue(
      good,
      "tokenizer.ggml.scores",
      ggufArray("f32", draw.list(vocab, () => draw.pick([NaN, Infinity, -Infinity, 0, -1e30, 1e30]))),
    ),
  long_tokens: (good, draw) =>
    withTokens(
      good,
      (tokens) => tokens.with(300, repeated(draw.pick(["a", "😀", "▁"]), draw.size(10, 500_000))),
    ),
  empty_tokens: (good, draw) =>
    withTokens(good, (tokens) => tokens.map((token, i) => i > 258 && draw.chance(60) ? "" : token)),
  doubled_tokens: (good, draw) =>
    withTokens(good, (tokens) => tokens.map((token) => draw.chance(20) ? draw.pick(tokens) : token)),
  bytes_not_utf_8: (good, draw) =>
    withValue(
      good,
      "tokenizer.ggml.tokens",
      ggufArray(
        "str",
        llamaVocab(vocab).tokens.map((token) =>
          draw.chance(20) ? Uint8Array.of(0xff, draw.integer(0, 255), 0) : token
        ),
      ),
    ),
  of_another_kind: (good, draw) =>
    ofKind(draw.pick(["gpt2", "bert", "t5", "rwkv", "plamo2", "none", "gemma4", "no_vocab"]))(good),
  gpt2: (good, draw) =>
    [
      ["tokenizer.ggml.model", ggufScalar("str", "gpt2")] as const,
      [
        "tokenizer.ggml.pre",
        ggufScalar(
          "str",
          draw.pick([
            "default",
            "gpt-2",
            "llama-bpe",
            "qwen2",
            "deepseek-llm",
            "gpt-4o",
            "kimi-k2",
            "nonesuch",
            "",
          ]),
        ),
      ] as const,
      [
        "tokenizer.ggml.merges",
        ggufArray(
          "str",
          draw.list(
            draw.size(1, 2_000),
            () => draw.pick(["a b", "t h", "th e", "", " ", "a", "Ġ t", "a b c", "ab ab", "\u0000 x"]),
          ),
        ),
      ] as const,
    ].reduce((parts, [key, value]) => withValue(parts, key, value), good),
  special_ids: (good, draw) =>
    ["bos", "eos", "eot", "unknown", "padding", "seperator", "mask", "fim_pre"].reduce(
      (parts, name) =>
        draw.chance(40)
          ? withValue(
            parts,
            `tokenizer.ggml.${name}_token_id`,
            ggufScalar("u32", draw.pick([0, 1, 2, 3, 319, 320, 2 ** 31, 2 ** 32 - 1])),
          )
          : parts,
      good,
    ),
  flags: (good, draw) =>
    ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces", "escape_whitespaces"]
      .reduce(
        (parts, name) => withValue(parts, `tokenizer.ggml.${name}`, ggufScalar("bool", draw.chance(50))),
        good,
      ),
  charsmap: (good, draw) =>
    [
      ["tokenizer.ggml.model", ggufScalar("str", "t5")] as const,
      [
        "tokenizer.ggml.precompiled_charsmap",
        ggufArray("u8", draw.list(draw.size(1, 4_000), () => draw.integer(0, 255))),
      ] as const,
    ].reduce((parts, [key, value]) => withValue(parts, key, value), good),
};

/** Text that reaches every token. */
function vocabularyRequests(draw: Draw): ModelEntry["requests"] {
  const bytes = Array.from({ length: 128 }, (_, i) => String.fromCharCode(i)).join("");
  const scripts = Object.values(SCRIPTS).map((unit) => unit(draw)).join("");
  return [
    { path: FOREIGN_ROUTES.tokenize.path, body: { content: bytes, with_pieces: true } },
    { path: FOREIGN_ROUTES.tokenize.path, body: { content: scripts, add_special: true } },
    { path: FOREIGN_ROUTES.detokenize.path, body: { tokens: Array.from({ length: vocab }, (_, i) => i) } },
    {
      path: WORKER_ROUTES.inference.path,
      body: {
        prompt: `${bytes}${scripts}`.slice(0, 150),
        max_tokens: 16,
        temperature: 2,
        logprobs: 5,
        stream: false,
      },
    },
    {
      path: WORKER_ROUTES.inference.path,
      body: { prompt: "\u0001a", max_tokens: 8, grammar: "root ::= [a-z\\x01]+" },
    },
    {
      path: FOREIGN_ROUTES.completions.path,
      body: { prompt: [[0, 1, 2, 319]], max_tokens: 4, stop: ["\u0001"] },
    },
  ];
}

/** A10: a model whose vocabulary is hostile. */
export function drawVocabulary(draw: Draw): ModelEntry {
  const names = draw.list(draw.chance(25) ? 2 : 1, () => draw.pick(Object.keys(VOCABULARIES)));
  return vocabularyEntry(
    names.join(", "),
    (good) => names.reduce((parts, name) => VOCABULARIES[name](parts, draw), good),
    draw,
  );
}

/** A model whose vocabulary was damaged. */
export function vocabularyEntry(
  name: string,
  damage: (good: GgufParts) => GgufParts,
  draw: Draw,
): ModelEntry {
  const parts = damage(llamaGgufParts(TINIEST_LLAMA));
  return {
    act: "model",
    name,
    right: "either",
    file: () => bytesOf(parts),
    requests: vocabularyRequests(draw),
  };
}

/** One token called otherwise. */
export function tokenRenamed(id: number, name: string): (good: GgufParts) => GgufParts {
  return (good) => withTokens(good, (tokens) => tokens.with(id, name));
}

/** A vocabulary that is said to be another tokeniser's. */
export function ofKind(kind: string): (good: GgufParts) => GgufParts {
  return (good) => withValue(good, "tokenizer.ggml.model", ggufScalar("str", kind));
}

function withTokens(good: GgufParts, change: (tokens: readonly string[]) => readonly string[]): GgufParts {
  return withValue(good, "tokenizer.ggml.tokens", ggufArray("str", change(llamaVocab(vocab).tokens)));
}

function withTypes(good: GgufParts, change: (type: number, id: number) => number): GgufParts {
  return withValue(good, "tokenizer.ggml.token_type", ggufArray("i32", llamaVocab(vocab).types.map(change)));
}

function bytesOf(parts: GgufParts): Uint8Array<ArrayBuffer> {
  return new Uint8Array(encodeGguf(parts));
}

function nest([open, close]: readonly [string, string], depth: number, inner: string): string {
  return open.repeat(depth) + inner + close.repeat(depth);
}

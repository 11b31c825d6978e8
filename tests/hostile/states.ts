/** A8: exported answers whose lengths, counters, constraint or KV cache were tampered with. */
import { type Draw, repeated } from "./draw.ts";
import type { ExportedState, StateEntry } from "./entry.ts";

const MAGIC = new TextEncoder().encode("RBEESEQ\n");
const FORMAT_VERSION = 1;
const FIXED_BYTES = MAGIC.length + 8;
const HASH_BYTES = 32;
/** Where llama.cpp has its counts: what is written here decides what it allocates. */
const KV_HEAD_BYTES = 64;

/** Numbers that a length or a counter can't be. */
const WRONG = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff];
const WRONG_COUNTERS = [0, 1, 513, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1];
const WRONG_TOKENS = [0, 1, 2, 511, 2_047, 2_048, 40_000, 2 ** 31 - 1];

type Tamper = StateEntry["tamper"];

/** A constraint as a chat template would ask for it. */
function constraint(fields: Record<string, unknown>): string {
  return JSON.stringify({
    grammar: 'root ::= "a"*',
    lazy: true,
    triggers: [],
    preserved_tokens: [],
    generation_prompt: "",
    thinking_start: "",
    thinking_ends: [],
    ...fields,
  });
}

function trigger(type: number, value: string, token = 0) {
  return { type, value, token };
}

function withOptions(state: ExportedState, options: Record<string, unknown>): ExportedState {
  const { grammar: _, json_schema: __, ...rest } = state.header.options as Record<string, unknown>;
  return { ...state, header: { ...state.header, options: { ...rest, ...options } } };
}

function withHeader(state: ExportedState, fields: Record<string, unknown>): ExportedState {
  return { ...state, header: { ...state.header, ...fields } };
}

function withKv(
  state: ExportedState,
  change: (kv: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>,
): ExportedState {
  return { ...state, kv: change(state.kv.slice()) };
}

/** A 32-bit number written into the KV cache. */
export function kvWord(offset: number, value: number): Tamper {
  return (state) =>
    withKv(state, (kv) => {
      if (offset + 4 <= kv.length) new DataView(kv.buffer).setUint32(offset, value, true);
      return kv;
    });
}

/** A pattern that starts a grammar, of so many parentheses. */
export function triggerPattern(pattern: string, type = 2): Tamper {
  return (state) => withOptions(state, { constraint: constraint({ triggers: [trigger(type, pattern)] }) });
}

const PATTERNS: ((draw: Draw) => string)[] = [
  (draw) => nestedGroups(draw.size(10, 200_000)),
  (draw) => `(a*)*${repeated("(a*)*", draw.size(1, 2_000))}b`,
  (draw) => `(${repeated("a?", draw.size(1, 20_000))})${repeated("a", draw.size(1, 20_000))}`,
  (draw) => `[${repeated("a-z", draw.size(3, 50_000))}]`,
  (draw) => `a{${draw.size(1, 2 ** 31)}}`,
  (draw) => `((a{1000}){1000}){${draw.size(1, 1000)}}`,
  (draw) =>
    draw.text(
      ["(", ")", "[", "]", "*", "+", "?", "{", "}", "\\", "^", "$", "a", "|", ".", "(?="],
      draw.size(2, 5_000),
    ),
  (draw) => "|".repeat(draw.size(1, 200_000)),
  (draw) => `(${"a|".repeat(draw.size(1, 100_000))}b)*`,
  (draw) => `(.*)${"\\1".repeat(draw.size(1, 1_000))}`,
];

const TAMPERS: Readonly<Record<string, (draw: Draw) => Tamper>> = {
  kv_head: (draw) => kvWord(4 * draw.integer(0, KV_HEAD_BYTES / 4 - 1), draw.pick(WRONG)),
  kv_head_bytes: (draw) => {
    const changes = draw.list(
      draw.integer(2, 12),
      () => [draw.integer(0, KV_HEAD_BYTES - 1), draw.integer(0, 255)],
    );
    return (state) => withKv(state, (kv) => (changes.forEach(([at, value]) => kv[at] = value), kv));
  },
  kv_anywhere: (draw) => {
    const [place, value] = [draw.next(), draw.pick(WRONG)];
    return (state) => kvWord(Math.floor(place * (state.kv.length / 4 - 1)) * 4, value)(state);
  },
  kv_cut: (draw) => {
    const share = draw.next();
    return (state) => withKv(state, (kv) => kv.slice(0, Math.floor(kv.length * share)));
  },
  kv_longer: (draw) => {
    const more = draw.size(1, 10_000_000);
    return (state) =>
      withKv(state, (kv) => {
        const longer = new Uint8Array(kv.length + more);
        longer.set(kv);
        return longer;
      });
  },
  kv_noise: (draw) => {
    const noise = Uint8Array.from(draw.list(draw.size(1, 100_000), () => draw.integer(0, 255)));
    return (state) => ({ ...state, kv: noise });
  },
  kv_of_ones: () => (state) => withKv(state, (kv) => kv.fill(255)),
  kv_tokens: (draw) => {
    const tokens = draw.pick(WRONG_COUNTERS);
    return (state) => withHeader(state, { kv_tokens: tokens });
  },
  draws: (draw) => {
    const draws = draw.pick([...WRONG_COUNTERS, 1e6, 1e9, 1e12]);
    return (state) => withHeader(state, { draws });
  },
  max_tokens: (draw) => {
    const tokens = draw.pick(WRONG_COUNTERS);
    return (state) => withHeader(state, { max_tokens: tokens });
  },
  seed: (draw) => {
    const seed = draw.pick([-1, 2 ** 32 - 2, 2 ** 32 - 1, 2 ** 53, 0.5]);
    return (state) => withHeader(state, { seed });
  },
  token_ids: (draw) => {
    const [field, token] = [draw.pick(["prompt", "generated"]), draw.pick(WRONG_TOKENS)];
    return (state) => withHeader(state, { [field]: [...state.header[field] as number[], token] });
  },
  long_prompt: (draw) => {
    const [field, count] = [draw.pick(["prompt", "generated"]), draw.size(100, 3_000_000)];
    return (state) => withHeader(state, { [field]: Array(count).fill(300) });
  },
  no_tokens: (draw) => {
    const field = draw.pick(["prompt", "generated"]);
    return (state) => withHeader(state, { [field]: [] });
  },
  held: (draw) => {
    const [count, top] = [draw.size(1, 100_000), draw.size(1, 20)];
    return (state) =>
      withHeader(state, {
        held: Array(count).fill({
          logprob: -1,
          top: Array(top).fill({ id: 2 ** 31 - 1, token: "a", logprob: 0 }),
        }),
      });
  },
  trigger_pattern: (draw) => triggerPattern(draw.pick(PATTERNS)(draw), draw.integer(0, 3)),
  triggers: (draw) => {
    const triggers = draw.list(draw.size(1, 20_000), (i) => trigger(i % 4, `a${i}`, draw.pick(WRONG_TOKENS)));
    return (state) => withOptions(state, { constraint: constraint({ triggers }) });
  },
  constraint_parts: (draw) => {
    const long = repeated(draw.pick(["a", "😀", "<|end|>", "\u0000"]), draw.size(1, 500_000));
    const field = draw.pick(["generation_prompt", "thinking_start"]);
    const list = draw.pick(["preserved_tokens", "thinking_ends"]);
    return (state) =>
      withOptions(state, {
        constraint: constraint({
          [field]: long,
          [list]: Array(draw.integer(1, 50)).fill(long.slice(0, 1_000)),
        }),
      });
  },
  constraint_grammar: (draw) => {
    const grammar = draw.pick([
      `root ::= ${repeated('"a"? ', draw.size(5, 20_000))}"b"`,
      'root ::= "a"{2,1}',
      "root ::= ([^\\x00]?){1000}",
      "root ::= root root",
      "",
    ]);
    const lazy = draw.chance(50);
    return (state) => withOptions(state, { constraint: constraint({ grammar, lazy }) });
  },
  constraint_rubbish: (draw) => {
    const text = draw.pick([
      "",
      "{",
      "[]",
      "null",
      '{"grammar":5}',
      nestedGroups(draw.size(1, 100_000)),
      "[".repeat(draw.size(1, 200_000)),
    ]);
    return (state) => withOptions(state, { constraint: text });
  },
  stop_strings: (draw) => {
    const stop = Array(draw.pick([1, 16, 64, 65])).fill("x".repeat(draw.size(1, 2_000)));
    return (state) => withOptions(state, { stop });
  },
  header_bytes: (draw) => {
    const claimed = draw.pick(WRONG);
    return (state) => ({ ...state, claimedHeaderBytes: claimed });
  },
  unknown_field: (draw) => {
    const depth = draw.size(1, 100_000);
    return (state) => withHeader(state, { extra: "x", model: "[".repeat(depth) });
  },
  bytes_cut: (draw) => {
    const length = draw.size(1, 200);
    return () => new Uint8Array(length).fill(82);
  },
};

/** One exported answer, tampered with. */
export function drawState(draw: Draw): StateEntry {
  const what = draw.pick(Object.keys(TAMPERS));
  const first = TAMPERS[what](draw);
  if (!draw.chance(20)) return { act: "state", name: what, right: "either", tamper: first };
  const other = draw.pick(Object.keys(TAMPERS));
  const second = TAMPERS[other](draw);
  return {
    act: "state",
    name: `${what}, ${other}`,
    right: "either",
    tamper: (state) => {
      const once = first(state);
      return once instanceof Uint8Array ? once : second(once);
    },
  };
}

/** Takes an exported answer apart. */
export function readState(bytes: Uint8Array<ArrayBuffer>): ExportedState {
  const headerEnd = FIXED_BYTES +
    new DataView(bytes.buffer, bytes.byteOffset).getUint32(MAGIC.length + 4, true);
  return {
    header: JSON.parse(new TextDecoder().decode(bytes.subarray(FIXED_BYTES, headerEnd))),
    kv: bytes.slice(headerEnd, bytes.length - HASH_BYTES),
  };
}

/** Puts one together again, with a checksum that is right. */
export async function writeState(state: ExportedState): Promise<Uint8Array<ArrayBuffer>> {
  const json = new TextEncoder().encode(JSON.stringify(state.header));
  const bytes = new Uint8Array(FIXED_BYTES + json.length + state.kv.length + HASH_BYTES);
  bytes.set(MAGIC);
  const view = new DataView(bytes.buffer);
  view.setUint32(MAGIC.length, FORMAT_VERSION, true);
  view.setUint32(MAGIC.length + 4, state.claimedHeaderBytes ?? json.length, true);
  bytes.set(json, FIXED_BYTES);
  bytes.set(state.kv, FIXED_BYTES + json.length);
  const end = bytes.length - HASH_BYTES;
  bytes.set(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.subarray(0, end))), end);
  return bytes;
}

function nestedGroups(depth: number): string {
  return "(".repeat(depth) + "a" + ")".repeat(depth);
}

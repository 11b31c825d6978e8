/**
 * An answer on its way from one worker to another, as bytes: 8 bytes of magic, the format's version and the header's
 * length (both 32 bits, little-endian), the header (JSON), the KV cache as llama.cpp writes it, and the SHA-256 of all
 * that. The model is told by a fingerprint of its file.
 */
import * as z from "zod";
import { nextTurn } from "../daemon/clock.ts";
import { JsonCounter } from "../daemon/json_bounds.ts";
import { concatBytes } from "../protocol/bytes.ts";
import { RbeeError } from "../protocol/errors.ts";
import { MAX_JSON_VALUES } from "../protocol/limits.ts";
import { VERSION } from "../protocol/version.ts";
import { GenerationOptions, MAX_SEED } from "../protocol/worker_requests.ts";
import { TokenLogprob } from "../protocol/worker_schemas.ts";
import type { Engine } from "./engine.ts";
import type { NativeSequence } from "./native/addon.ts";
import type { Work } from "./work.ts";

const MAGIC = new TextEncoder().encode("RBEESEQ\n");
const FORMAT_VERSION = 1;
const HASH_BYTES = 32;
const FIXED_BYTES = MAGIC.length + 8;
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
/** Of a header, counted without a pause for others. */
const PART_BYTES = 1024 * 1024;

const Tokens = z.array(z.int().min(0).max(0x7fff_ffff)).max(16 * 1024 * 1024);
const Header = z.strictObject({
  rbee: z.string(),
  model: z.string(),
  options: GenerationOptions,
  seed: z.int().min(0).max(MAX_SEED),
  max_tokens: z.int().min(1),
  prompt: Tokens,
  generated: Tokens,
  /** The last generated tokens, not sent yet because their text may still change. */
  held: z.array(z.strictObject({ logprob: z.number().optional(), top: z.array(TokenLogprob).optional() })),
  /** Random numbers drawn from the seed. */
  draws: z.int().min(0),
  kv_tokens: z.int().min(0),
});

/** What makes a running answer. */
export interface ExportedAnswer {
  /** Of the model's file, from {@linkcode modelFingerprint}. */
  model: string;
  /** As the request asked. */
  options: GenerationOptions;
  /** Where it stood. */
  sequence: NativeSequence;
}

/** To bytes. */
export async function encodeAnswer(answer: ExportedAnswer): Promise<Uint8Array<ArrayBuffer>> {
  const { model, options, sequence } = answer;
  const header: z.infer<typeof Header> = {
    rbee: VERSION,
    model,
    options,
    seed: sequence.seed,
    max_tokens: sequence.maxTokens,
    prompt: [...sequence.prompt],
    generated: [...sequence.generated],
    held: sequence.held,
    draws: sequence.draws,
    kv_tokens: sequence.kvTokens,
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(FIXED_BYTES + json.length + sequence.kv.length + HASH_BYTES);
  bytes.set(MAGIC);
  const view = new DataView(bytes.buffer);
  view.setUint32(MAGIC.length, FORMAT_VERSION, true);
  view.setUint32(MAGIC.length + 4, json.length, true);
  bytes.set(json, FIXED_BYTES);
  bytes.set(sequence.kv, FIXED_BYTES + json.length);
  const end = bytes.length - HASH_BYTES;
  bytes.set(await sha256(bytes.subarray(0, end)), end);
  return bytes;
}

/**
 * From bytes, checked; `context` is the most tokens that the worker can take up.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for what is no exported answer, is damaged, too large, or of another format.
 */
export async function decodeAnswer(
  bytes: Uint8Array<ArrayBuffer>,
  context: number,
): Promise<ExportedAnswer> {
  const end = bytes.length - HASH_BYTES;
  if (end < FIXED_BYTES || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw unusable("These bytes are no exported answer.");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const version = view.getUint32(MAGIC.length, true);
  if (version !== FORMAT_VERSION) {
    throw unusable(`Its format is version ${version}, this worker reads version ${FORMAT_VERSION}.`);
  }
  const hash = await sha256(bytes.subarray(0, end));
  const headerEnd = FIXED_BYTES + view.getUint32(MAGIC.length + 4, true);
  if (hash.some((byte, i) => bytes[end + i] !== byte) || headerEnd > Math.min(end, MAX_HEADER_BYTES)) {
    throw unusable("It was damaged on its way: the checksum differs.");
  }
  const parsed = Header.safeParse(await readHeader(bytes.subarray(FIXED_BYTES, headerEnd), context));
  if (!parsed.success) {
    throw unusable(`Its header is not as it should be: ${parsed.error.issues[0].message}.`);
  }
  const { model, options, ...header } = parsed.data;
  return {
    model,
    options,
    sequence: {
      seed: header.seed,
      maxTokens: header.max_tokens,
      prompt: Int32Array.from(header.prompt),
      generated: Int32Array.from(header.generated),
      held: header.held,
      draws: header.draws,
      kv: bytes.subarray(headerEnd, end),
      kvTokens: header.kv_tokens,
    },
  };
}

/**
 * What tells one model's file from another without reading all of it: the SHA-256 of its size and of 64 samples of 4096
 * bytes, evenly spread from the first to the last byte.
 */
export async function modelFingerprint(path: string): Promise<string> {
  const samples = 64;
  const sampleBytes = 4096;
  using file = await Deno.open(path);
  const { size } = await file.stat();
  const parts = [new TextEncoder().encode(`${size}\n`)];
  for (let i = 0; i < samples; i++) {
    await file.seek(Math.round(i * Math.max(0, size - sampleBytes) / (samples - 1)), Deno.SeekMode.Start);
    const part = new Uint8Array(sampleBytes);
    parts.push(part.subarray(0, await file.read(part) ?? 0));
  }
  return (await sha256(concatBytes(parts))).toHex();
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

async function readHeader(bytes: Uint8Array, context: number): Promise<unknown> {
  const counter = new JsonCounter({ maxValues: MAX_JSON_VALUES + context });
  for (let at = 0; at < bytes.length; at += PART_BYTES) {
    if (at > 0) await nextTurn();
    counter.push(bytes.subarray(at, at + PART_BYTES));
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function unusable(why: string): RbeeError {
  return new RbeeError("INVALID_REQUEST", `The exported answer cannot be continued. ${why}`);
}

/** How an answer is generated, without what was asked. */
export function generationOptions(work: Work): GenerationOptions {
  const names = Object.keys(GenerationOptions.shape) as (keyof GenerationOptions)[];
  return GenerationOptions.parse(Object.fromEntries(names.map((name) => [name, work[name]])));
}

/**
 * What {@linkcode encodeAnswer} gave, as work for a worker of the same model.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for another model's answer and for what is not an answer.
 */
export async function resumableWork(
  bytes: Uint8Array<ArrayBuffer>,
  worker: { modelRef: string; fingerprint: () => Promise<string>; engine: Pick<Engine, "facts"> },
): Promise<Work> {
  const { model, options, sequence } = await decodeAnswer(bytes, worker.engine.facts.context);
  if (model !== await worker.fingerprint()) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `The exported answer is of another model than ${worker.modelRef}, which this worker has loaded.`,
    );
  }
  return { ...options, resume: sequence };
}

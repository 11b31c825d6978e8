/**
 * Prompts are never stored, and yet what waits survives a queen. So what is stored of them is sealed (AES-256-GCM), and
 * the key lies in the machine's memory alone: a file in a folder of the user's that no disk stands behind. With the
 * machine's memory it is gone, and what was sealed with it. Where there is no such folder, the key lies in the home
 * folder, for the owner alone.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { join } from "@std/path";
import { concatBytes } from "../../protocol/bytes.ts";
import { type Environment, PRIVATE_FILE_MODE } from "../../home/paths.ts";

const ALGORITHM = "aes-256-gcm";
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** RFC 1952. No JSON begins so. */
const GZIP_MAGIC = [0x1f, 0x8b];
const gzip = promisify<string, zlib.ZlibOptions, Uint8Array>(zlib.gzip);
const gunzip = promisify<Uint8Array, Uint8Array>(zlib.gunzip);

/** Seals and opens. */
export class Seal {
  readonly #key: Uint8Array;

  /** 32 bytes. */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Text as bytes that say nothing without the key. */
  close(text: string): Uint8Array {
    return this.#close(new TextEncoder().encode(text));
  }

  /** The same for a text that may be long: compressed first, beside this thread. */
  async closeLong(text: string): Promise<Uint8Array> {
    return this.#close(await gzip(text, { level: 1 }));
  }

  /** The text; undefined when another key sealed it, or it is damaged. */
  open(bytes: Uint8Array): string | undefined {
    const plain = this.#open(bytes);
    return plain && new TextDecoder().decode(plain);
  }

  /** The same of what {@linkcode closeLong} gave, or {@linkcode close}. */
  async openLong(bytes: Uint8Array): Promise<string | undefined> {
    const plain = this.#open(bytes);
    if (plain === undefined) return undefined;
    const isPacked = GZIP_MAGIC.every((byte, i) => plain[i] === byte);
    return new TextDecoder().decode(isPacked ? await gunzip(plain) : plain);
  }

  #close(plain: Uint8Array): Uint8Array {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#key, nonce);
    return concatBytes([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  #open(bytes: Uint8Array): Uint8Array | undefined {
    try {
      const decipher = createDecipheriv(ALGORITHM, this.#key, bytes.subarray(0, NONCE_BYTES));
      decipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES));
      const plain = decipher.update(bytes.subarray(NONCE_BYTES, bytes.length - TAG_BYTES));
      return concatBytes([plain, decipher.final()]);
    } catch {
      return undefined;
    }
  }
}

/** The seal of this home's queen: the one there is, or a new one. */
export async function homeSeal(home: string, env: Environment = Deno.env): Promise<Seal> {
  const path = await sealPath(home, env);
  const aside = `${path}.${crypto.randomUUID()}`;
  try {
    return new Seal(await readKey(path));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  // Written aside and linked: whoever sees the file sees the whole key.
  await Deno.writeFile(aside, new Uint8Array(randomBytes(KEY_BYTES)), {
    createNew: true,
    mode: PRIVATE_FILE_MODE,
  });
  try {
    await Deno.link(aside, path);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  } finally {
    await Deno.remove(aside);
  }
  return new Seal(await readKey(path));
}

async function readKey(path: string): Promise<Uint8Array> {
  const key = await Deno.readFile(path);
  if (key.length === KEY_BYTES) return key;
  // Nothing that it sealed can be opened any more, and a new one takes its place.
  await Deno.remove(path);
  throw new Deno.errors.NotFound(`${path} held no key.`);
}

async function sealPath(home: string, env: Environment): Promise<string> {
  const runtime = env.get("XDG_RUNTIME_DIR");
  if (!runtime) return join(home, "queen.seal");
  const folder = join(runtime, "rbee");
  try {
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  } catch {
    return join(home, "queen.seal");
  }
  const name = createHash("sha256").update(home).digest("hex").slice(0, 16);
  return join(folder, `queen-${name}.seal`);
}

/** Whose keys the queen takes, and what each may do: those of its configuration, and those that were added to it. */
import { createHash, createHmac, randomBytes } from "node:crypto";
import type { Logger } from "../daemon/log.ts";
import type { QueenKey } from "../home/config_schema.ts";
import { newKey } from "../home/keys.ts";
import { RbeeError } from "../protocol/errors.ts";
import {
  AddKeyRequest,
  type ChangeKeyRequest,
  type KeyInfo,
  KeySettings,
  type NewKeyResponse,
} from "../protocol/key_schemas.ts";
import { type Caller, may, OWNER, type Right } from "../protocol/rights.ts";
import type { KeyLimits } from "./accounts.ts";
import { ADDED_KEYS_MAX } from "./limits.ts";
import { NO_LIMITS, type RequestLimits, requestLimitsOf } from "./request_limits.ts";
import type { KeyStore, StoredKey } from "./store/key_store.ts";

/** Options of {@linkcode Keys}. */
export interface KeysOptions {
  configured: readonly QueenKey[];
  store: KeyStore;
  /** The daemon's own key: the scope of the owner's caches comes from it. */
  apiKey: string;
  /** Told a key's limits whenever they may have changed. */
  onLimits: (id: string, limits: KeyLimits) => void;
  log: Logger;
}

interface Key {
  readonly name: string;
  readonly caller: Caller;
  readonly digest: Uint8Array;
  readonly settings: KeySettings;
  readonly limits: RequestLimits;
  /** Absent: it stands in the configuration. */
  readonly stored?: StoredKey;
}

/** A key while a request runs or waits in its name. */
export interface KeyInUse extends Disposable {
  /** Aborts when the key is removed; has aborted where there is no such key. */
  readonly signal: AbortSignal;
}

/** See above. */
export class Keys {
  readonly #options: KeysOptions;
  readonly #ownerScope: string;
  #configured: readonly QueenKey[] = [];
  #stored: readonly StoredKey[] = [];
  #byName = new Map<string, Key>();
  #byId = new Map<string, Key>();
  /** By a digest of their digests that nobody can foretell: how long a look takes tells nothing of any key. */
  #byMark = new Map<string, Key>();
  readonly #secret = randomBytes(32);
  /** By id: what ends the requests of a key. */
  readonly #inUse = new Map<string, Set<AbortController>>();
  /** Settles when the last change is stored: the next begins with what it left. */
  #changed: Promise<unknown> = Promise.resolve();

  private constructor(options: KeysOptions) {
    this.#options = options;
    this.#ownerScope = scopeOf("key", createHash("sha256").update(options.apiKey).digest());
  }

  /** With the keys that were added to an earlier queen of this store. */
  static async open(options: KeysOptions): Promise<Keys> {
    const keys = new Keys(options);
    keys.#stored = await options.store.keys();
    keys.configure(options.configured);
    return keys;
  }

  /** Takes other keys of the configuration. */
  configure(configured: readonly QueenKey[]): void {
    this.#configured = configured;
    this.#settle();
    const { log } = this.#options;
    for (const { name } of this.#stored) {
      if (this.#byName.get(name)?.stored !== undefined) continue;
      log.warn("key of the configuration takes the place of one that was added", {
        key: name,
        remedy: `rename it under queen.keys, or say: rbee-keeper keys remove ${name}`,
      });
    }
    if (this.#byName.has(OWNER.id)) {
      log.warn("a key is named owner: it is not the owner's, and has its own rights alone", {
        key: idOf(OWNER.id),
        remedy: "give it another name under queen.keys",
      });
    }
  }

  /**
   * Whose a key is, by its SHA-256. Nobody can choose a part of that: the time of looking it up tells nothing of the keys
   * there are.
   */
  identify(digest: Uint8Array): Caller | undefined {
    return this.#byMark.get(this.#markOf(digest))?.caller;
  }

  #markOf(digest: Uint8Array): string {
    return createHmac("sha256", this.#secret).update(digest).digest("base64");
  }

  /** Of what there is, beside the others. */
  shareOf(id: string): number {
    return this.#byId.get(id)?.settings.share ?? 1;
  }

  /** Whether a key has a right, by its id; what is no key's any more has none. */
  may(id: string, right: Right): boolean {
    return id === OWNER.id || may(this.#byId.get(id)?.caller ?? { rights: [] }, right);
  }

  /** What a key lets its requests have. */
  limitsOf(id: string): RequestLimits {
    return this.#byId.get(id)?.limits ?? NO_LIMITS;
  }

  /** To be held as long as a request of a key runs or waits. */
  use(id: string): KeyInUse {
    const end = new AbortController();
    const all = this.#inUse.get(id) ?? new Set();
    this.#inUse.set(id, all.add(end));
    if (id !== OWNER.id && !this.#byId.has(id)) end.abort(removed(id));
    return {
      signal: end.signal,
      [Symbol.dispose]: () => {
        all.delete(end);
        if (all.size === 0 && this.#inUse.get(id) === all) this.#inUse.delete(id);
      },
    };
  }

  /** Within this the caches of workers are shared: it says nothing of the key, and differs for any other. */
  cacheScopeOf(id: string): string {
    if (id === OWNER.id) return this.#ownerScope;
    const key = this.#byId.get(id);
    if (key === undefined) return scopeOf("gone", id);
    const { cache_group: group } = key.settings;
    return group === undefined ? scopeOf("key", key.digest) : scopeOf("group", group);
  }

  /** All but the daemon's own, by name. */
  list(): KeyInfo[] {
    return [...this.#byName.keys()].sort().map((name) => infoOf(this.#byName.get(name)!));
  }

  /**
   * Makes a key.
   *
   * @throws {RbeeError} `INVALID_REQUEST` when the name is taken, or there are too many.
   */
  add(request: AddKeyRequest): Promise<NewKeyResponse> {
    const { name, ...settings } = request;
    return this.#inTurn(async () => {
      if (name === OWNER.id || this.#byName.has(name)) throw taken(name);
      if (this.#stored.length >= ADDED_KEYS_MAX) {
        throw new RbeeError("INVALID_REQUEST", `There are ${ADDED_KEYS_MAX} keys already. Remove one first.`);
      }
      const nowMs = Date.now();
      const stored = { name, settings: JSON.stringify(settings), createdMs: nowMs, rotatedMs: nowMs };
      return await this.#withSecret(stored);
    });
  }

  /**
   * Changes what a key may have, from its next request on.
   *
   * @throws {RbeeError} as {@linkcode remove}.
   */
  change(name: string, change: ChangeKeyRequest): Promise<KeyInfo> {
    return this.#inTurn(async () => {
      const stored = this.#requireAdded(name);
      const settings = Object.entries({ ...JSON.parse(stored.settings), ...change })
        .filter(([, value]) => value !== null);
      await this.#put({ ...stored, settings: JSON.stringify(Object.fromEntries(settings)) });
      this.#options.log.info("key changed", { key: name, fields: Object.keys(change) });
      return infoOf(this.#byName.get(name)!);
    });
  }

  /**
   * Gives a key a new secret; the old one is void when this resolves. What runs in its name goes on.
   *
   * @throws {RbeeError} as {@linkcode remove}.
   */
  rotate(name: string): Promise<NewKeyResponse> {
    return this.#inTurn(() => this.#withSecret({ ...this.#requireAdded(name), rotatedMs: Date.now() }));
  }

  /**
   * Removes a key. What runs or waits in its name is told to end.
   *
   * @throws {RbeeError} `NOT_FOUND`; `INVALID_REQUEST` for one of the configuration.
   */
  remove(name: string): Promise<void> {
    return this.#inTurn(async () => {
      this.#requireAdded(name);
      await this.#options.store.removeKey(name);
      this.#stored = this.#stored.filter((stored) => stored.name !== name);
      this.#settle();
      this.#options.log.info("key removed", { key: name });
    });
  }

  /**
   * A fresh key for the hive of a machine, in the place of the one that it had.
   *
   * @throws {RbeeError} `INVALID_REQUEST` when a key of another kind has its name.
   */
  async forHive(node: string): Promise<string> {
    const name = `hive-${node}`;
    const known = this.#byName.get(name);
    if (known === undefined) return (await this.add(AddKeyRequest.parse({ name, rights: "hive", node }))).key;
    if (known.stored === undefined || known.caller.node !== node) throw taken(name);
    return (await this.rotate(name)).key;
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const changed = this.#changed.then(change);
    this.#changed = changed.catch(() => {});
    return changed;
  }

  async #withSecret(what: Omit<StoredKey, "hash">): Promise<NewKeyResponse> {
    const key = newKey();
    await this.#put({ ...what, hash: createHash("sha256").update(key).digest("hex") });
    const info = infoOf(this.#byName.get(what.name)!);
    this.#options.log.info("key made", { key: what.name, key_fp6: info.fp6, rights: info.rights });
    return { ...info, key };
  }

  async #put(stored: StoredKey): Promise<void> {
    await this.#options.store.putKey(stored);
    this.#stored = [...this.#stored.filter(({ name }) => name !== stored.name), stored];
    this.#settle();
  }

  #requireAdded(name: string): StoredKey {
    const stored = this.#stored.find((each) => each.name === name);
    if (stored !== undefined) return stored;
    if (!this.#byName.has(name)) {
      throw new RbeeError("NOT_FOUND", `There is no key ${JSON.stringify(name.slice(0, 64))}.`);
    }
    throw new RbeeError(
      "INVALID_REQUEST",
      `The key ${name} stands in the queen's config.yaml, under queen.keys. Change it there.`,
    );
  }

  /** What holds from now on: keys of the configuration go before those that were added. */
  #settle(): void {
    const keys = [
      ...this.#stored.map((stored) =>
        keyOf(stored.name, KeySettings.parse(JSON.parse(stored.settings)), stored)
      ),
      ...this.#configured.map((key) => keyOf(key.name, key, key)),
    ];
    this.#byName = new Map(keys.map((key) => [key.name, key]));
    this.#byId = new Map([...this.#byName.values()].map((key) => [key.caller.id, key]));
    this.#byMark = new Map([...this.#byName.values()].map((key) => [this.#markOf(key.digest), key]));
    for (const [id, { settings }] of this.#byId) this.#options.onLimits(id, settings);
    for (const [id, ends] of this.#inUse) {
      if (id === OWNER.id || this.#byId.has(id)) continue;
      for (const end of [...ends]) end.abort(removed(id));
    }
  }
}

function keyOf(name: string, settings: KeySettings, secret: { hash: string } | StoredKey): Key {
  return {
    name,
    settings,
    limits: requestLimitsOf(settings),
    caller: { id: idOf(name), rights: [settings.rights].flat(), node: settings.node },
    digest: Uint8Array.fromHex(secret.hash),
    stored: "createdMs" in secret ? secret : undefined,
  };
}

/** No key has the owner's id, whatever it is called: no name can have a blank. */
function idOf(name: string): string {
  return name === OWNER.id ? `${name} (a key)` : name;
}

function infoOf({ name, caller, digest, settings, stored }: Key): KeyInfo {
  return {
    name,
    rights: [...caller.rights],
    node: settings.node ?? null,
    share: settings.share,
    requests_per_minute: settings.requests_per_minute ?? null,
    tokens_per_minute: settings.tokens_per_minute ?? null,
    tokens_per_day: settings.tokens_per_day ?? null,
    cache_group: settings.cache_group ?? null,
    models: settings.models ?? null,
    nodes: settings.nodes ?? null,
    context: settings.context ?? null,
    grammar: settings.grammar,
    downloads: settings.downloads,
    priority: settings.priority,
    fp6: digest.toHex().slice(0, 6),
    source: stored === undefined ? "config" : "queen",
    created_unix: stored === undefined ? null : Math.floor(stored.createdMs / 1000),
    rotated_unix: stored === undefined ? null : Math.floor(stored.rotatedMs / 1000),
  };
}

function taken(name: string): RbeeError {
  const message = name === OWNER.id ? "is reserved for the queen's own key" : "is taken by another key";
  return new RbeeError("INVALID_REQUEST", `The name ${name} ${message}. Choose another one.`, {
    details: { errors: [{ field: "name", constraint: "taken", message }] },
  });
}

function removed(id: string): RbeeError {
  return new RbeeError("INVALID_API_KEY", `The key ${id} was removed, and its requests ended with it.`, {
    details: { reason: "removed" },
  });
}

function scopeOf(kind: string, of: string | Uint8Array): string {
  return createHash("sha256").update(`rbee cache scope ${kind}\0`).update(of).digest("hex").slice(0, 16);
}

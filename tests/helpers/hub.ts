// A stand-in for the Hugging Face hub: two real HTTP servers, the hub and its storage host ("CDN"), that answer
// as the real ones do and misbehave on request.

import { HubBlob } from "./hub_content.ts";
import { FaultPlan, type HubFault, type HubPurpose, paced, spoil } from "./hub_faults.ts";
import type { FileReply } from "./hub_files.ts";
import { type HubFacts, replyAtHub } from "./hub_replies.ts";
import { type HubFile, type HubFileSpec, HubRepo, type HubRepoSpec } from "./hub_repo.ts";
import { type HubTarget, type HubTokens, parseTarget } from "./hub_routes.ts";
import { HubStorage } from "./hub_storage.ts";
import { type WireReply, type WireRequest, WireServer } from "./wire_server.ts";

/** How a stand-in begins. */
export interface HubOptions {
  /** By `owner/name`. */
  readonly repos: Readonly<Record<string, HubRepoSpec>>;
  /** Valid tokens, each with the gated and private repositories it opens. Default: none. */
  readonly tokens?: HubTokens;
  /** Asked before `faults` for each request; may also act on the hub. */
  readonly fault?: (request: HubRequest) => HubFault | undefined;
  /** Most entries of one tree page. Default: 1000. */
  readonly treePageSize?: number;
  /** Speed limit of every connection to the storage host. Default: none. */
  readonly bytesPerSecond?: number;
  /** Send those who ask for small files through a relative redirect on the same host. Default: false. */
  readonly resolveCache?: boolean;
}

/** A request as seen from inside; the last four fields change while it is answered. */
export interface HubRequest {
  readonly origin: "hub" | "cdn";
  readonly purpose: HubPurpose;
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly headers: Headers;
  /** Number of the TCP connection at its origin. */
  readonly connection: number;
  /** Path in the repository of the file asked for. */
  readonly path: string | undefined;
  /** Absent until the answer begins. */
  readonly status: number | undefined;
  readonly fault: HubFault["kind"] | undefined;
  /** Body bytes given to the connection so far. */
  readonly sentBytes: number;
  /** The answer is over, whole or not. */
  readonly ended: boolean;
}

interface HubServers {
  readonly hub: WireServer;
  readonly cdn: WireServer;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const DEFAULT_TREE_PAGE_SIZE = 1000;
const UNTIL_TIMEOUT_MS = 30_000;

/** Starts a hub on two free ports of 127.0.0.1; disposing of it cuts every connection. */
export async function startHub(options: HubOptions): Promise<Hub> {
  return await Hub.start(options);
}

export class Hub implements AsyncDisposable {
  /** Faults for requests to come. */
  readonly faults: FaultPlan = new FaultPlan();
  #options: HubOptions;
  #facts: HubFacts;
  #storage = new HubStorage();
  #servers: HubServers;
  #requests: Writable<HubRequest>[] = [];
  #releases = new Set<() => void>();
  #watchers = new Set<() => void>();

  private constructor(options: HubOptions, servers: HubServers) {
    this.#options = options;
    this.#servers = servers;
    this.#facts = {
      repos: new Map(Object.entries(options.repos).map(([name, spec]) => [name, new HubRepo(name, spec)])),
      tokens: options.tokens ?? {},
      treePageSize: options.treePageSize ?? DEFAULT_TREE_PAGE_SIZE,
      resolveCache: options.resolveCache ?? false,
      origin: this.url,
      addressOf: (file) => this.#storage.addressOf(file, this.cdnUrl),
    };
  }

  /** See `startHub`. */
  static async start(options: HubOptions): Promise<Hub> {
    // Nobody knows the ports before `made` is there, so no request comes before it.
    const made = Promise.withResolvers<Hub>();
    const servers = {
      hub: await WireServer.start(async (request) => await (await made.promise).#answerAtHub(request)),
      cdn: await WireServer.start(async (request) => await (await made.promise).#answerAtCdn(request)),
    };
    made.resolve(new Hub(options, servers));
    return await made.promise;
  }

  /** What to set `HF_ENDPOINT` to. */
  get url(): string {
    return this.#servers.hub.origin;
  }

  /** The origin that large files are redirected to. */
  get cdnUrl(): string {
    return this.#servers.cdn.origin;
  }

  /** Every request to either origin, in order of arrival. */
  get requests(): readonly HubRequest[] {
    return this.#requests;
  }

  /** The requests with these properties. */
  requestsFor(wanted: Partial<Pick<HubRequest, "origin" | "purpose" | "method" | "path">>): HubRequest[] {
    const entries = Object.entries(wanted) as [keyof typeof wanted, string][];
    return this.#requests.filter((request) => entries.every(([key, value]) => request[key] === value));
  }

  /** Answers that a `stall` holds up at this moment. */
  get stalledCount(): number {
    return this.#releases.size;
  }

  /** Lets every stalled answer go on. */
  release(): void {
    for (const release of this.#releases) release();
  }

  /** Every redirect given out so far leads to a 403 from now on, as it does after an hour at the real hub. */
  expireSignedUrls(): void {
    this.#storage.expire();
  }

  /** A new commit with files added, replaced or (`null`) removed; returns its id. */
  commit(
    repo: string,
    files: Readonly<Record<string, HubFileSpec | null>>,
    options: { branch?: string } = {},
  ): string {
    return this.#facts.repos.get(repo)!.commit(files, options.branch ?? "main");
  }

  /** The commit that a branch points to. */
  head(repo: string, branch = "main"): string {
    return this.#facts.repos.get(repo)!.resolve(branch)!;
  }

  /**
   * Resolves once `condition` holds; looks whenever a request arrives, moves on, stalls or ends.
   *
   * @throws {Error} after 30 s, with what has happened so far.
   */
  async until(condition: (hub: Hub) => boolean, options: { signal?: AbortSignal } = {}): Promise<void> {
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(this.#timeoutError()), UNTIL_TIMEOUT_MS);
    const signal = AbortSignal.any([deadline.signal, ...(options.signal ? [options.signal] : [])]);
    signal.addEventListener("abort", () => this.#notify(), { once: true });
    try {
      while (!condition(this)) {
        signal.throwIfAborted();
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#watchers.add(resolve);
        await promise;
        this.#watchers.delete(resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #timeoutError(): Error {
    const lines = this.#requests.map(({ method, target, status, fault, sentBytes }) =>
      `${method} ${target}: ${status ?? "no answer"}, ${sentBytes} bytes${fault ? `, ${fault}` : ""}`
    );
    return new Error(["Condition not met at the stand-in hub in time. Requests:", ...lines].join("\n  "));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { hub, cdn } = this.#servers;
    await Promise.all([hub[Symbol.asyncDispose](), cdn[Symbol.asyncDispose]()]);
  }

  async #answerAtHub(request: WireRequest): Promise<WireReply> {
    const target = parseTarget(request.target);
    const file = this.#fileOf(target);
    return await this.#answer(request, {
      ...{ origin: "hub", purpose: this.#purposeAtHub(request, target), file },
      make: (ignoreRange) => replyAtHub(request, { target, facts: this.#facts, ignoreRange }),
    });
  }

  async #answerAtCdn(request: WireRequest): Promise<WireReply> {
    const file = this.#storage.find(request);
    return await this.#answer(request, {
      ...{ origin: "cdn", purpose: "content", file },
      make: (ignoreRange) => Promise.resolve(this.#storage.reply(request, { file, ignoreRange })),
    });
  }

  #purposeAtHub(request: WireRequest, target: HubTarget): HubPurpose {
    if (target.kind !== "resolve") return target.kind;
    const direct = this.#fileOf(target)?.lfs === false && (target.cached || !this.#facts.resolveCache);
    return direct && request.method === "GET" ? "content" : "resolve";
  }

  #fileOf(target: HubTarget): HubFile | undefined {
    if (target.kind !== "resolve") return undefined;
    const repo = this.#facts.repos.get(target.repo);
    const commit = repo?.resolve(target.revision);
    return commit === undefined ? undefined : repo?.file(commit, target.path);
  }

  /** Records the request, makes the answer, and spoils it if it is this one's turn. */
  async #answer(
    request: WireRequest,
    options: {
      origin: "hub" | "cdn";
      purpose: HubPurpose;
      file: HubFile | undefined;
      make: (ignoreRange: boolean) => Promise<FileReply>;
    },
  ): Promise<WireReply> {
    const { origin, purpose, file } = options;
    const record = this.#record(request, { origin, purpose, path: file?.path });
    const fault = this.#options.fault?.(record) ?? this.faults.take(record);
    record.fault = fault?.kind;
    if (fault?.kind === "change" && file !== undefined) file.blob = new HubBlob(fault.content);
    const made = await options.make(fault?.kind === "no_range");
    let reply = made.reply;
    const { signal } = request;
    const { bytesPerSecond } = this.#options;
    if (origin === "cdn" && bytesPerSecond !== undefined && reply.body !== undefined) {
      reply = { ...reply, body: paced(reply.body, { bytesPerSecond, signal }) };
    }
    if (fault !== undefined) {
      const stalled = () => this.#stall(signal);
      reply = spoil(reply, { fault, bodyStart: made.bodyStart, signal, stalled });
    }
    if (!reply.headless) record.status = reply.status;
    const hasBody = reply.body !== undefined && request.method !== "HEAD";
    record.ended = !hasBody;
    this.#notify();
    return hasBody ? { ...reply, body: this.#counted(reply.body!, record) } : reply;
  }

  #record(
    request: WireRequest,
    about: Pick<HubRequest, "origin" | "purpose" | "path">,
  ): Writable<HubRequest> {
    const { method, target, headers, connection } = request;
    const beginning = { status: undefined, fault: undefined, sentBytes: 0, ended: false };
    const record = { ...about, method, target, headers, connection, ...beginning };
    this.#requests.push(record);
    this.#notify();
    return record;
  }

  async *#counted(body: AsyncIterable<Uint8Array>, record: Writable<HubRequest>): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of body) {
        record.sentBytes += chunk.length;
        this.#notify();
        yield chunk;
      }
    } finally {
      record.ended = true;
      this.#notify();
    }
  }

  async #stall(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const release = () => {
      this.#releases.delete(release);
      signal.removeEventListener("abort", release);
      resolve();
      this.#notify();
    };
    this.#releases.add(release);
    signal.addEventListener("abort", release, { once: true });
    this.#notify();
    await promise;
  }

  #notify(): void {
    for (const wake of this.#watchers) wake();
  }
}

/** Requests to the hub: redirects by hand, the token for the hub alone, silence noticed. */
import { cancelOn } from "../../protocol/cancel_on.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { HubToken } from "./hub_token.ts";
import { MAX_HUB_ANSWER_BYTES, MAX_REDIRECTS, type ModelLimits } from "./limits.ts";
import { AttemptFailed, parseRetryAfter } from "./retry_plan.ts";
import { StallWatch } from "./stall_watch.ts";

/** As the global `fetch`. */
export type Fetch = (url: URL, init: RequestInit) => Promise<Response>;

/** Where the hub is and how it is asked. */
export interface HubHttpOptions {
  /** The hub's base address, with a path where a mirror has one. */
  endpoint: string;
  /** Sent to the endpoint's origin only. */
  token: HubToken | undefined;
  /** For tests. */
  fetch: Fetch;
  /** Its stall limit. */
  limits: ModelLimits;
}

/** What bytes are of, by the origin that gave it. */
export interface Validator {
  /** Another one knows nothing of this ETag. */
  origin: string;
  /** A strong one. */
  etag: string;
}

/** One request. */
export interface HubRequest {
  /** Ends it. */
  signal: AbortSignal;
  /** For messages: what is asked for. */
  what: string;
  /** Headers for a hop to this origin. */
  headersFor?: (origin: string) => Record<string, string>;
}

/** A successful answer whose body is still to be read. */
export interface HubAnswer extends Disposable {
  /** 2xx. */
  response: Response;
  /** What gave it, after redirects. */
  url: URL;
  /** Tell it about every chunk, and when none is awaited. */
  watch: StallWatch;
  /** Aborts when nothing more is to be read; see {@linkcode cancelOn}. */
  signal: AbortSignal;
  /** What a failed read means: an {@linkcode AttemptFailed}. */
  readFailure(error: unknown): unknown;
}

/** Talks to one hub. */
export class HubHttp {
  readonly #options: HubHttpOptions;
  readonly #origin: string;

  /** Nothing is sent yet. */
  constructor(options: HubHttpOptions) {
    this.#options = options;
    this.#origin = new URL(options.endpoint).origin;
  }

  /** `path` below the endpoint. */
  url(path: string): URL {
    return new URL(this.#options.endpoint.replace(/\/+$/, "") + path);
  }

  /**
   * GETs `url`, following redirects. Disposing the answer lets go of the connection.
   *
   * @throws {AttemptFailed} for every failure; when the caller aborted, that is for the caller to tell.
   */
  async get(url: URL, request: HubRequest): Promise<HubAnswer> {
    const watch = new StallWatch(this.#options.limits);
    const hangUp = new AbortController();
    const signal = AbortSignal.any([request.signal, watch.signal, hangUp.signal]);
    let answered: Response | undefined;
    const dispose = () => {
      watch[Symbol.dispose]();
      hangUp.abort();
      // Without effect where a reader has it.
      answered?.body?.cancel().catch(() => {});
    };
    const readFailure = (error: unknown) => this.#failure(error, { request, watch, host: url.host });
    try {
      let at = url;
      for (let redirects = 0;; redirects++) {
        const response = await this.#options.fetch(at, {
          headers: this.#headers(at, request),
          redirect: "manual",
          signal,
        });
        watch.heard();
        if (response.ok) {
          answered = response;
          return { response, url: at, watch, signal, readFailure, [Symbol.dispose]: dispose };
        }
        await response.body?.cancel();
        at = this.#nextHop(response, { at, redirects, request });
      }
    } catch (error) {
      dispose();
      throw readFailure(error);
    }
  }

  /** GETs a JSON document of bounded size with the headers it came with. Throws as {@linkcode HubHttp.get}. */
  async getJson(url: URL, request: HubRequest): Promise<{ json: unknown; headers: Headers }> {
    using answer = await this.get(url, request);
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    try {
      const reader = (answer.response.body ?? new Blob().stream()).getReader();
      using _cancel = cancelOn(answer.signal, reader);
      for (;;) {
        const { done, value: chunk } = await reader.read();
        answer.signal.throwIfAborted();
        if (done) break;
        answer.watch.heard(chunk.length);
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > MAX_HUB_ANSWER_BYTES) {
          throw malformed(url, `is larger than ${MAX_HUB_ANSWER_BYTES} bytes`);
        }
      }
    } catch (error) {
      throw answer.readFailure(error);
    }
    try {
      return { json: JSON.parse(await new Blob(chunks).text()), headers: answer.response.headers };
    } catch {
      throw malformed(url, "is no JSON");
    }
  }

  #headers(url: URL, request: HubRequest): Headers {
    // Compressed bytes would not be the bytes that were hashed.
    const headers = new Headers({ "Accept-Encoding": "identity", ...request.headersFor?.(url.origin) });
    const { token } = this.#options;
    if (token !== undefined && url.origin === this.#origin) {
      headers.set("Authorization", `Bearer ${token.value}`);
    }
    return headers;
  }

  /** Where a redirect leads; throws for every other answer without success. */
  #nextHop(response: Response, hop: { at: URL; redirects: number; request: HubRequest }): URL {
    const { at, redirects } = hop;
    const location = response.headers.get("Location");
    if (response.status < 300 || response.status > 399 || location === null) {
      throw this.#statusFailure(response, hop);
    }
    if (redirects >= MAX_REDIRECTS) throw malformed(at, `redirects more than ${MAX_REDIRECTS} times`);
    const next = URL.parse(location, at);
    if (next === null || !/^https?:$/.test(next.protocol)) throw malformed(at, "redirects to no web address");
    return next;
  }

  #statusFailure(response: Response, hop: { at: URL; request: HubRequest }): AttemptFailed {
    const { status } = response;
    const { at, request } = hop;
    const reason = `${at.host} answered HTTP ${status}`;
    const retryAfterMs = parseRetryAfter(response.headers.get("Retry-After"), Date.now());
    const error = at.origin === this.#origin && (status === 401 || status === 403)
      ? this.#accessDenied(response, request.what)
      : at.origin === this.#origin && status === 404
      ? new RbeeError("MODEL_NOT_FOUND", `${request.what} is not at ${this.#origin}. Check the name.`, {
        details: { status, error_code: response.headers.get("X-Error-Code") ?? undefined },
      })
      : new RbeeError("DOWNLOAD_FAILED", `Cannot fetch ${request.what}: ${reason}. Try again later.`, {
        details: { status },
      });
    return new AttemptFailed({ kind: "status", status, reason, retryAfterMs }, error);
  }

  /** The hub says 401 for what is missing, private or gated alike, so the message names every way out. */
  #accessDenied(response: Response, what: string): RbeeError {
    const { token } = this.#options;
    const gated = response.headers.get("X-Error-Code") === "GatedRepo";
    const cause = gated
      ? "is gated"
      : token === undefined
      ? "does not exist, or is private"
      : "is private or gated";
    const advice = token === undefined
      ? `${
        gated ? "Ask for access on its page, then give" : "Check the name; if it is right, give"
      } a token: ` +
        "set HF_TOKEN, or put it in a file and name that as hub.token_file in config.yaml"
      : `The token of ${token.source} does not open it: ask for access on its page, or use another token ` +
        "(HF_TOKEN or hub.token_file)";
    return new RbeeError("MODEL_ACCESS_DENIED", `${this.#origin} refuses ${what}: it ${cause}. ${advice}.`, {
      details: { status: response.status },
    });
  }

  #failure(error: unknown, context: { request: HubRequest; watch: StallWatch; host: string }): unknown {
    const { request, watch, host } = context;
    if (error instanceof AttemptFailed || error instanceof RbeeError) return error;
    const { stallTimeoutMs } = this.#options.limits;
    const stalled = watch.signal.aborted;
    const reason = stalled ? `no byte for ${stallTimeoutMs / 1000} s` : rootMessage(error);
    const code = stalled ? "DOWNLOAD_TIMEOUT" : "DOWNLOAD_FAILED";
    return new AttemptFailed(
      { kind: stalled ? "stalled" : "network", reason },
      new RbeeError(code, `Cannot fetch ${request.what} from ${host}: ${reason}. Check the connection.`, {
        cause: error,
      }),
    );
  }
}

function malformed(url: URL, why: string): RbeeError {
  return new RbeeError("DOWNLOAD_FAILED", `The answer of ${url.host} ${why}. Is hub.endpoint a hub?`);
}

/** Network errors of `fetch` carry the telling part in a chain of causes; addresses are signed, so they are cut. */
function rootMessage(error: unknown): string {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  const message = at instanceof Error ? at.message : String(at);
  return message.replace(/error sending request for url \([^)]*\): /, "").replace(
    /https?:\/\/\S+/g,
    "the address",
  );
}

/** The form of the corpus: one entry is one thing that somebody hostile does, and what is right to come of it. */

/** What a kind is about. The names are those of the faults that were found first. */
export const KINDS = {
  A1: "text to tokenise",
  A2: "grammars and schemas that take long",
  A3: "repetition bounds",
  A4: "requests that kill their worker",
  A5: "bodies deep and wide",
  A6: "products",
  A7: "connections",
  A8: "exported answers",
  A9: "chat templates",
  A10: "vocabularies",
  A11: "closing in the middle",
  A12: "long chat answers",
} as const;

/** See {@linkcode KINDS}. */
export type Kind = keyof typeof KINDS;

/** Which worker a request is for. */
export type Ground = "answers" | "embeddings" | "ranking" | "long answers";

/** What is right: an answer, a refusal that blames the caller, or one of the two. */
export type Right = "answered" | "refused" | "either";

interface Named {
  /** For people; not unique. */
  readonly name: string;
  readonly right: Right;
}

/** One request over HTTP. */
export interface RequestEntry extends Named {
  readonly act: "request";
  readonly ground: Ground;
  readonly path: string;
  /** Made when it is sent: some are large. */
  readonly body: () => string | Uint8Array<ArrayBuffer>;
  /** It takes a slot while it is answered, so that a cancel has one to free. */
  readonly generates?: boolean;
}

/** `POST /v1/inference/resume` with an exported answer that was tampered with. */
export interface StateEntry extends Named {
  readonly act: "state";
  readonly tamper: (state: ExportedState) => ExportedState | Uint8Array<ArrayBuffer>;
}

/** An exported answer, taken apart. */
export interface ExportedState {
  header: Record<string, unknown>;
  kv: Uint8Array<ArrayBuffer>;
  /** Instead of the right one. */
  claimedHeaderBytes?: number;
}

/** Connections that are opened and behave badly. Nothing but the end of the connection is due to them. */
export interface ConnectionsEntry extends Named {
  readonly act: "connections";
  readonly count: number;
  /** Written at once; empty: an idle connection. */
  readonly bytes: (key: string) => string;
  /** How long they are held. */
  readonly holdMs: number;
}

/** A model file, loaded by a worker of its own, and what it is asked. The load may be refused instead. */
export interface ModelEntry extends Named {
  readonly act: "model";
  readonly file: () => Uint8Array<ArrayBuffer>;
  readonly requests: readonly { path: string; body: unknown }[];
}

/** A worker that is told to leave while requests are on their way. It has to leave by itself. */
export interface ClosingEntry extends Named {
  readonly act: "closing";
  readonly requests: readonly { path: string; body: () => string }[];
  /** Between the requests and the moment at which their callers leave. */
  readonly leaveAfterMs: number;
  /** Between that and the signal. */
  readonly closeAfterMs: number;
}

/** One entry of the corpus. */
export type Entry = RequestEntry | StateEntry | ConnectionsEntry | ModelEntry | ClosingEntry;

/** A request whose body is JSON, made once however often it is sent. */
export function jsonRequest(
  what: Omit<RequestEntry, "act" | "body" | "ground" | "right"> & {
    ground?: Ground;
    right?: Right;
    json: () => unknown;
  },
): RequestEntry {
  const { json, ...rest } = what;
  let made: string | undefined;
  return {
    ground: "answers",
    right: "either",
    ...rest,
    act: "request",
    body: () => made ??= JSON.stringify(json()),
  };
}

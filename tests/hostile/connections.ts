/** A7 and A11: connections that behave badly, and workers that are closed in the middle of their work. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Draw, repeated } from "./draw.ts";
import type { ClosingEntry, ConnectionsEntry } from "./entry.ts";
import { drawText } from "./texts.ts";

const PATH = WORKER_ROUTES.inference.path;
const MAX_CONNECTIONS = 300;
const MAX_HOLD_MS = 400;

const head = (key: string, lines: readonly string[]) =>
  [
    `POST ${PATH} HTTP/1.1`,
    "Host: localhost",
    `Authorization: Bearer ${key}`,
    "Content-Type: application/json",
    ...lines,
    "",
    "",
  ].join("\r\n");

/** What is written on such a connection; the body of a request never comes whole. */
const OPENINGS: Readonly<Record<string, (draw: Draw) => (key: string) => string>> = {
  idle: () => () => "",
  half_line: () => () => "GET /v1/hea",
  half_headers: (draw) => {
    const lines = draw.size(1, 90);
    return () => `GET /v1/health HTTP/1.1\r\n${"X-Header: value\r\n".repeat(lines)}`;
  },
  long_headers: (draw) => {
    const size = draw.size(100, 1_000_000);
    return (key) => head(key, [`X-Long: ${"a".repeat(size)}`]);
  },
  many_headers: (draw) => {
    const count = draw.size(10, 20_000);
    return (key) => head(key, Array.from({ length: count }, (_, i) => `X-${i}: 1`));
  },
  half_body: (draw) => {
    const size = draw.size(10, 15_000_000);
    return (key) => head(key, [`Content-Length: ${size}`]) + '{"prompt":"a';
  },
  no_body: (draw) => {
    const size = draw.pick([1, 16 * 1024 * 1024, 2 ** 31, 2 ** 53]);
    return (key) => head(key, [`Content-Length: ${size}`]);
  },
  half_chunk: (draw) => {
    const size = draw.pick([
      "5",
      "ffffffff",
      "ffffffffffffffff",
      "0000000000000000005",
      "-1",
      "5;" + "x".repeat(10_000),
    ]);
    return (key) => head(key, ["Transfer-Encoding: chunked"]) + `${size}\r\n{"a`;
  },
  two_lengths: () => (key) => head(key, ["Content-Length: 5", "Content-Length: 50"]) + "{}",
  length_and_chunks: () => (key) =>
    head(key, ["Content-Length: 5", "Transfer-Encoding: chunked"]) + "0\r\n\r\n",
  rubbish: (draw) => {
    const bytes = draw.text([
      "\u0000",
      "\r\n",
      "GET ",
      "\u00ff",
      "HTTP/2.0",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      "\u0016\u0003\u0001",
      " ",
    ], draw.size(1, 100_000));
    return () => bytes;
  },
  pipelined: (draw) => {
    const count = draw.size(1, 2_000);
    return () => "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(count);
  },
  never_read: (draw) => {
    const count = draw.size(1, 50);
    return (key) => {
      const body = JSON.stringify({ prompt: "Once", max_tokens: 50 });
      return (head(key, [`Content-Length: ${body.length}`]) + body).repeat(count);
    };
  },
  expects: () => (key) => head(key, ["Content-Length: 100", "Expect: 100-continue"]),
  upgrades: () => (key) => head(key, ["Connection: Upgrade", "Upgrade: websocket"]),
};

/** A7: some connections at once. */
export function drawConnections(draw: Draw): ConnectionsEntry {
  const name = draw.pick(Object.keys(OPENINGS));
  return {
    act: "connections",
    name,
    right: "either",
    count: draw.size(1, MAX_CONNECTIONS),
    bytes: OPENINGS[name](draw),
    holdMs: draw.size(1, MAX_HOLD_MS),
  };
}

/** Idle connections, so many. */
export function idleConnections(count: number): ConnectionsEntry {
  return {
    act: "connections",
    name: `${count} idle`,
    right: "either",
    count,
    bytes: () => "",
    holdMs: 1_000,
  };
}

const STORY = "Once upon a time, there was a little girl named Lily. ";

/** Work in progress when a worker gets SIGTERM. */
const BUSINESS: Readonly<Record<string, (draw: Draw) => { path: string; json: unknown }>> = {
  long_prompt: (draw) => ({
    path: PATH,
    json: { prompt: repeated(STORY, draw.size(100, 20_000)), max_tokens: 200 },
  }),
  answer: (draw) => ({ path: PATH, json: { prompt: STORY, max_tokens: 400, seed: draw.integer(0, 99) } }),
  grammar: (draw) => ({
    path: PATH,
    json: {
      prompt: STORY,
      grammar: `root ::= ${'("a" | "b")? '.repeat(draw.size(2, 400))}"c"`,
      max_tokens: 50,
    },
  }),
  schema: (draw) => ({
    path: PATH,
    json: {
      prompt: STORY,
      json_schema: {
        type: "object",
        properties: Object.fromEntries(draw.list(draw.size(2, 300), (i) => [`p${i}`, { type: "string" }])),
      },
      max_tokens: 50,
    },
  }),
  chat: () => ({
    path: FOREIGN_ROUTES.chatCompletions.path,
    json: { messages: [{ role: "user", content: STORY }], max_tokens: 200 },
  }),
  choices: () => ({ path: FOREIGN_ROUTES.completions.path, json: { prompt: STORY, n: 4, max_tokens: 100 } }),
  tokenize: (draw) => ({
    path: FOREIGN_ROUTES.tokenize.path,
    json: { content: drawText(draw, draw.size(1_000, 200_000)).text },
  }),
  count: (draw) => ({
    path: FOREIGN_ROUTES.countTokens.path,
    json: { messages: [{ role: "user", content: drawText(draw, draw.size(1_000, 200_000)).text }] },
  }),
};

/** A11: requests, whose callers leave, and a signal to the worker shortly after. */
export function drawClosing(draw: Draw): ClosingEntry {
  const names = draw.list(draw.integer(1, 12), () => draw.pick(Object.keys(BUSINESS)));
  const requests = names.map((name) => {
    const { path, json } = BUSINESS[name](draw);
    return { path, body: () => JSON.stringify(json) };
  });
  return {
    act: "closing",
    name: names.join(", "),
    right: "either",
    requests,
    leaveAfterMs: draw.integer(0, 60),
    closeAfterMs: draw.integer(0, 20),
  };
}

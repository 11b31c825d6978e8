/** What the tests with the npm package `openai` share. */
import { assertEquals } from "@std/assert";
import OpenAI from "openai";
import type { WorkerProcess } from "../helpers/worker_process.ts";

/** A conversation. */
export const ASKED = [{ role: "user" as const, content: "write a short story" }];

/** A function that a model may call. */
export const WEATHER = {
  type: "function" as const,
  function: {
    name: "get_weather",
    parameters: {
      type: "object",
      properties: { place: { enum: ["Paris", "Rome"] }, days: { enum: [1, 2] } },
      required: ["place", "days"],
      additionalProperties: false,
    },
  },
};

/** An unmodified client of one worker. */
export function clientOf(worker: WorkerProcess, apiKey = worker.key): OpenAI {
  return new OpenAI({ baseURL: `${worker.url}/v1`, apiKey, maxRetries: 0 });
}

/** Every chunk of a chat's stream, and the text that they make. */
export async function textOf(stream: AsyncIterable<OpenAI.ChatCompletionChunk>) {
  const chunks = await Array.fromAsync(stream);
  const deltas = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta));
  return { chunks, text: deltas.map(({ content }) => content ?? "").join("") };
}

/** A request without a client. */
export function call(worker: WorkerProcess, path: string, body: unknown): Promise<Response> {
  return fetch(`${worker.url}${path}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${worker.key}` },
    body: JSON.stringify(body),
  });
}

/** The same, for an answer that is as it should be. */
export async function json(
  worker: WorkerProcess,
  path: string,
  body: unknown,
): Promise<Record<string, unknown>> {
  const response = await call(worker, path, body);
  assertEquals(response.status, 200);
  return await response.json();
}

/** A neighbour of hostile requests: a long stream whose text is known, so that nothing of it can be lost unseen. */
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { NO_END, type Target } from "./send.ts";

const NO_ROOM = 503;

/** One stream, as it came over the wire; undefined when there was no slot for it. */
export async function streamOf(
  { url, key }: Target,
  wanted: { tokens: number; signal?: AbortSignal; onChunk?: () => void },
): Promise<string | undefined> {
  const { tokens, signal, onChunk } = wanted;
  const response = await fetch(new URL(WORKER_ROUTES.inference.path, url), {
    method: "POST",
    headers: { "Authorization": `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify({
      prompt: "Once upon a time",
      max_tokens: tokens,
      temperature: 0,
      seed: 1,
      // The same text whatever else the worker computes.
      strict: true,
      logit_bias: NO_END,
    }),
    signal,
  });
  if (response.status === NO_ROOM) {
    await response.body?.cancel();
    return undefined;
  }
  let text = "";
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    onChunk?.();
    text += chunk;
  }
  return text;
}

/** The text of a stream that came whole, or what it has lost. */
export function readStream(stream: string, tokens: number): { text: string } | { lost: string } {
  const events = stream.split("\n\n").filter((event) => event.startsWith("data: {"))
    .map((event) => JSON.parse(event.slice("data: ".length)));
  const error = events.find((event) => event.error !== undefined)?.error;
  if (error) return { lost: `${error.code}: ${error.message}` };
  const made = events.filter((event) => event.token !== undefined);
  if (made.length !== tokens || made.some(({ index }, i) => index !== i)) {
    return { lost: `${tokens - made.length} of ${tokens} tokens` };
  }
  if (!stream.endsWith("data: [DONE]\n\n")) return { lost: "its end" };
  return { text: made.map(({ token }) => token).join("") };
}

/** `POST /tokenize`, `/detokenize` and `/apply-template`: what an answer begins with, to look at. */
import { nextTurn } from "../../daemon/clock.ts";
import type { Handler } from "../../daemon/serve.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { ChatCompletionRequest, DetokenizeRequest, TokenizeRequest } from "../../protocol/openai_schemas.ts";
import type { Engine } from "../engine.ts";
import type { Worker } from "../worker.ts";
import { chatRequestOf } from "./conversation.ts";

/** Ids that are written at once: other requests are served between two such parts. */
const IDS_PER_PART = 8192;

/** Text to ids; with pieces, each with its text, or its bytes where that is no text by itself. */
export function tokenize(worker: Worker): Handler {
  return async ({ body, request: { signal } }) => {
    const { content, add_special, parse_special, with_pieces } = await body(TokenizeRequest);
    const { engine } = worker;
    const ids = await engine.tokenize(content, {
      addSpecial: add_special,
      parseSpecial: parse_special,
      signal,
    });
    return tokensResponse(ids, with_pieces ? pieceWriter(engine) : (part) => part.join(","));
  };
}

/** `{"tokens": [...]}`, written as it is read. `write` gives the items of a part, separated by commas. */
function tokensResponse(ids: Int32Array, write: (part: Int32Array) => string): Response {
  const encoder = new TextEncoder();
  let told = 0;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode('{"tokens":[')),
    async pull(controller) {
      // A reader that is fast would otherwise keep everybody else waiting until the last part.
      if (told > 0) await nextTurn();
      const part = ids.subarray(told, told + IDS_PER_PART);
      const separator = told === 0 || part.length === 0 ? "" : ",";
      told += part.length;
      const end = told === ids.length;
      controller.enqueue(encoder.encode(`${separator}${write(part)}${end ? "]}" : ""}`));
      if (end) controller.close();
    },
  });
  return new Response(body, { headers: { "Content-Type": "application/json" } });
}

/** Writes ids with their pieces. A text repeats its tokens, so each piece is made once. */
function pieceWriter(engine: Engine): (part: Int32Array) => string {
  const written = new Map<number, string>();
  return (part) =>
    Array.from(part, (id) => {
      let item = written.get(id);
      if (item === undefined) written.set(id, item = JSON.stringify(pieceOf(id, engine)));
      return item;
    }).join(",");
}

function pieceOf(id: number, engine: Engine): { id: number; piece: string | number[] } {
  const bytes = engine.piece(id);
  try {
    return { id, piece: WHOLE_TEXT.decode(bytes) };
  } catch {
    return { id, piece: [...bytes] };
  }
}

const WHOLE_TEXT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Ids to text, special tokens shown. */
export function detokenize(worker: Worker): Handler {
  return async ({ body, request: { signal } }) => {
    const { tokens } = await body(DetokenizeRequest);
    const { engine } = worker;
    const { vocabulary } = engine.facts;
    const unknown = tokens.find((token) => token >= vocabulary);
    if (unknown !== undefined) {
      throw new RbeeError(
        "INVALID_REQUEST",
        `Token id ${unknown} is not one of the vocabulary's ${vocabulary}.`,
      );
    }
    return Response.json({ content: await engine.detokenize(Int32Array.from(tokens), signal) });
  };
}

/** A conversation as the model's template renders it. */
export function applyTemplate(worker: Worker): Handler {
  return async ({ body, request: { signal } }) => {
    const request = await body(ChatCompletionRequest);
    const { prompt } = await worker.engine.renderChat(chatRequestOf(request), signal);
    return Response.json({ prompt });
  };
}

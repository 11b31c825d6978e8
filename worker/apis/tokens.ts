/** `POST /tokenize`, `/detokenize` and `/apply-template`: what an answer begins with, to look at. */
import type { Handler } from "../../daemon/serve.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { ChatCompletionRequest, DetokenizeRequest, TokenizeRequest } from "../../protocol/openai_schemas.ts";
import type { Worker } from "../worker.ts";
import { chatRequestOf } from "./conversation.ts";

/** Text to ids; with pieces, each with its text, or its bytes where that is no text by itself. */
export function tokenize(worker: Worker): Handler {
  return async ({ body }) => {
    const { content, add_special, parse_special, with_pieces } = await body(TokenizeRequest);
    const { engine } = worker;
    const ids = [...engine.tokenize(content, { addSpecial: add_special, parseSpecial: parse_special })];
    if (!with_pieces) return Response.json({ tokens: ids });
    return Response.json({
      tokens: ids.map((id) => ({ id, piece: pieceOf(engine.piece(id)) })),
    });
  };
}

function pieceOf(bytes: Uint8Array): string | number[] {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return [...bytes];
  }
}

/** Ids to text, special tokens shown. */
export function detokenize(worker: Worker): Handler {
  return async ({ body }) => {
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
    return Response.json({ content: engine.detokenize(Int32Array.from(tokens)) });
  };
}

/** A conversation as the model's template renders it. */
export function applyTemplate(worker: Worker): Handler {
  return async ({ body }) => {
    const request = await body(ChatCompletionRequest);
    const { prompt } = await worker.engine.renderChat(chatRequestOf(request));
    return Response.json({ prompt });
  };
}

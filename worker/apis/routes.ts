/** The routes of other interfaces and who answers them. */
import type { Route } from "../../daemon/serve.ts";
import { FOREIGN_ROUTES } from "../../protocol/routes.ts";
import type { Worker } from "../worker.ts";
import { countTokens, messages } from "./anthropic.ts";
import { embeddings, rerank, tokenEmbeddings } from "./embeddings.ts";
import { getModel, listModels } from "./models.ts";
import { ollamaChat, ollamaGenerate } from "./ollama.ts";
import { ollamaEmbed, ollamaShow, ollamaTags, ollamaVersion } from "./ollama_models.ts";
import { chatCompletions } from "./openai_chat.ts";
import { completions } from "./openai_completions.ts";
import { nowUnix } from "./openai_parts.ts";
import { responses } from "./openai_responses.ts";
import { applyTemplate, detokenize, tokenize } from "./tokens.ts";

/** Those of them that can be relayed. */
export function relayedHandlers(worker: Worker) {
  return {
    [FOREIGN_ROUTES.chatCompletions.path]: chatCompletions(worker),
    [FOREIGN_ROUTES.completions.path]: completions(worker),
    [FOREIGN_ROUTES.responses.path]: responses(worker),
    [FOREIGN_ROUTES.messages.path]: messages(worker),
  };
}

/** All of them, for one worker. */
export function foreignRoutes(worker: Worker): Route[] {
  const createdUnix = nowUnix();
  return [
    { spec: FOREIGN_ROUTES.models, handle: listModels(worker, createdUnix) },
    { spec: FOREIGN_ROUTES.model, handle: getModel(worker, createdUnix) },
    { spec: FOREIGN_ROUTES.chatCompletions, handle: chatCompletions(worker) },
    { spec: FOREIGN_ROUTES.completions, handle: completions(worker) },
    { spec: FOREIGN_ROUTES.responses, handle: responses(worker) },
    { spec: FOREIGN_ROUTES.embeddings, handle: embeddings(worker) },
    { spec: FOREIGN_ROUTES.tokenEmbeddings, handle: tokenEmbeddings(worker) },
    { spec: FOREIGN_ROUTES.rerank, handle: rerank(worker) },
    { spec: FOREIGN_ROUTES.tokenize, handle: tokenize(worker) },
    { spec: FOREIGN_ROUTES.detokenize, handle: detokenize(worker) },
    { spec: FOREIGN_ROUTES.applyTemplate, handle: applyTemplate(worker) },
    { spec: FOREIGN_ROUTES.messages, handle: messages(worker) },
    { spec: FOREIGN_ROUTES.countTokens, handle: countTokens(worker) },
    { spec: FOREIGN_ROUTES.ollamaChat, handle: ollamaChat(worker) },
    { spec: FOREIGN_ROUTES.ollamaGenerate, handle: ollamaGenerate(worker) },
    { spec: FOREIGN_ROUTES.ollamaEmbed, handle: ollamaEmbed(worker) },
    { spec: FOREIGN_ROUTES.ollamaTags, handle: ollamaTags(worker) },
    { spec: FOREIGN_ROUTES.ollamaShow, handle: ollamaShow(worker) },
    { spec: FOREIGN_ROUTES.ollamaVersion, handle: ollamaVersion },
  ];
}

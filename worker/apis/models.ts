/** `GET /v1/models` and `/v1/models/:id`: a worker has one. */
import type { Handler } from "../../daemon/serve.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { Worker } from "../worker.ts";

/** The list of one; `createdUnix` is since when there is it. */
export function listModels(worker: Worker, createdUnix: number): Handler {
  return () => Response.json({ object: "list", data: [modelOf(worker, createdUnix)] });
}

/** The one, asked for by its name. */
export function getModel(worker: Worker, createdUnix: number): Handler {
  return ({ params }) => {
    if (params.id === worker.modelRef) return Response.json(modelOf(worker, createdUnix));
    throw new RbeeError("MODEL_NOT_FOUND", `There is no model ${params.id} here, only ${worker.modelRef}.`);
  };
}

function modelOf(worker: Worker, created: number) {
  const { facts } = worker.engine;
  return {
    id: worker.modelRef,
    object: "model",
    created,
    owned_by: "rbee",
    meta: {
      architecture: facts.architecture,
      n_params: facts.parameters,
      size: facts.size_bytes,
      n_vocab: facts.vocabulary,
      n_embd: facts.embedding_length,
      n_ctx: facts.context,
      n_ctx_train: facts.context_train,
    },
  };
}

/** Which machine of a queen a command is about, where nobody has named one. */
import { RbeeError } from "../protocol/errors.ts";
import type { QueenClient } from "../protocol/queen_client.ts";
import type { PhaseContext } from "./context.ts";
import { referenceOf, unknownModel } from "./known_models.ts";
import { MAX_NAMES_SHOWN } from "./limits.ts";

/** Finds the machine, by its name. */
export type NodeChoice = (queen: QueenClient, context: PhaseContext) => Promise<string>;

/** The one machine there is. */
export const onlyNode: NodeChoice = async (queen, { signal }) => {
  const names = (await queen.nodes({ signal })).map(({ node_name }) => node_name);
  if (names.length === 1) return names[0];
  throw sayWhich("Say which of the queen's machines is meant.", names);
};

/** The one that has a model on its disk. */
export function nodeWithModel(given: string): NodeChoice {
  return async (queen, { signal }) => {
    const models = (await queen.models({}, { signal })).map(({ model_ref, nodes }) => ({
      reference: model_ref,
      nodes: nodes.filter(({ on_disk }) => on_disk).map(({ node }) => node),
    }));
    const reference = referenceOf(given, models);
    const names = models.find((model) => model.reference === reference)?.nodes ?? [];
    if (names.length === 1) return names[0];
    if (names.length === 0) throw unknownModel(given, models);
    throw sayWhich(`${reference} lies on several machines. Say which one is meant.`, names);
  };
}

/** The one where a request for a model would have it loaded, or that has it. */
export function nodeToLoad(model: string): NodeChoice {
  return async (queen, { output, signal }) => {
    const { node, why, nodes } = await queen.explain({ model }, { signal });
    const chosen = node ?? await ownerOf(model, queen, signal);
    if (chosen !== undefined) {
      output.say(`The queen would have it on ${chosen}.`);
      return chosen;
    }
    throw sayWhich(
      `The queen would load it nowhere now: ${why} Say which machine is to have it.`,
      nodes.map((one) => one.node),
    );
  };
}

async function ownerOf(model: string, queen: QueenClient, signal: AbortSignal): Promise<string | undefined> {
  const [found] = await queen.models({ model_ref: model }, { signal });
  return found?.nodes.find(({ on_disk }) => on_disk)?.node;
}

/** The one on which a worker runs. */
export function nodeOfWorker(id: string): NodeChoice {
  return async (queen, { signal }) => {
    const workers = await queen.workers({ signal });
    const found = workers.find(({ worker_id }) => worker_id === id);
    if (found !== undefined) return found.node;
    const names = (await queen.nodes({ signal })).map(({ node_name }) => node_name);
    throw sayWhich(`No worker ${id} runs. If it has ended, say on which machine it ran.`, names);
  };
}

function sayWhich(what: string, names: readonly string[]): RbeeError {
  const shown = names.slice(0, MAX_NAMES_SHOWN).join(", ");
  return new RbeeError("INVALID_REQUEST", what, {
    details: {
      advice: [names.length === 0 ? "No machine reports to this queen." : `Add --node with one of: ${shown}`],
    },
  });
}

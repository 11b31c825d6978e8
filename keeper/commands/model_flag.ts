/** `--model` where it has to be a reference of the three forms. */
import { RbeeError } from "../../protocol/errors.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";

/** What is wrong with it, in one line; nothing when it is absent. */
export function checkModelFlag(flags: { model?: string }): string[] {
  try {
    if (flags.model !== undefined) parseModelRef(flags.model);
    return [];
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    return [`--model: ${error.message}`];
  }
}

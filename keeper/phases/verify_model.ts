/** One model is read again by its hive, and one sees how far that is. */
import { errorFromBody, RbeeError } from "../../protocol/errors.ts";
import type { VerifyEvent } from "../../protocol/hive_schemas.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import { watchConnection } from "../connection_watch.ts";
import type { PhaseContext } from "../context.ts";
import { verifyLine, verifyStage } from "../progress.ts";
import type { ReachedHive } from "./reach_hive.ts";

/** What a verification found. */
export type Verified = Extract<VerifyEvent, { stage: "verified" }>;

/**
 * Waits for the end of a verification; Ctrl+C ends it at the hive too.
 *
 * @throws {RbeeError} what the hive found wrong; `NODE_UNREACHABLE` when it went away.
 */
export async function verifyModel(
  hive: ReachedHive,
  reference: string,
  context: PhaseContext,
): Promise<Verified> {
  const { output, signal } = context;
  using connection = watchConnection(hive.node.url, signal);
  try {
    const { events } = await hive.client.verifyModel(reference, connection);
    for await (const event of events) {
      if (event.stage === "verifying") output.progress(verifyStage(reference), verifyLine(reference, event));
      else if (event.stage === "verified") return event;
      else throw errorFromBody(event.error);
    }
    throw new StreamCutError();
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof StreamCutError)) throw error;
    throw new RbeeError(
      "NODE_UNREACHABLE",
      `The connection to the hive broke off while it verified ${reference}. Run the same command again`,
      { cause: error },
    );
  }
}

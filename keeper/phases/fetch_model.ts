/** Phase 3: is the model on the node's disk? If not, it is fetched, and one sees how far that is. */
import { abortable } from "@std/async";
import { errorFromBody, RbeeError } from "../../protocol/errors.ts";
import type { HiveClient } from "../../protocol/hive_client.ts";
import { CANCEL_TIMEOUT_MS } from "../../protocol/limits.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import type { PhaseContext } from "../context.ts";
import { Interrupted } from "../interrupt.ts";
import { DOWNLOAD_ANSWER_TIMEOUT_MS, DOWNLOAD_REJOINS } from "../limits.ts";
import { type DownloadFigures, downloadLine, STAGES } from "../progress.ts";
import { watchConnection } from "../connection_watch.ts";

/**
 * Waits until a model is there. Ctrl+C stops the download at the hive too; what was fetched is kept for the next try.
 *
 * @returns where its file is, and whether it was there before.
 * @throws {RbeeError} the hive's own error, after all of its retries.
 */
export async function fetchModel(
  hive: HiveClient,
  from: { modelRef: string; hiveUrl: string },
  context: PhaseContext,
): Promise<{ localPath: string; cached: boolean }> {
  const { output, signal } = context;
  for (let rejoins = 0;; rejoins++) {
    const answer = await hive.download(from.modelRef, { signal, timeoutMs: DOWNLOAD_ANSWER_TIMEOUT_MS });
    if ("local_path" in answer) return { localPath: answer.local_path, cached: true };
    const { download_id: id } = answer;
    // It outlives the caller's signal by one call: by who follows the hive knows whether it goes on for others.
    const stream = new AbortController();
    const following = follow(hive, { id, hiveUrl: from.hiveUrl, stream: stream.signal }, context);
    try {
      return { localPath: await abortable(following, signal), cached: false };
    } catch (error) {
      if (signal.aborted) throw await stopDownload(hive, id, signal.reason);
      // Somebody else's cancel, that came before this one followed it.
      const canceled = error instanceof RbeeError && error.code === "REQUEST_CANCELED";
      if (!(error instanceof StreamCutError || canceled)) throw error;
      if (rejoins === DOWNLOAD_REJOINS) throw connectionLost(error);
      output.say(
        `${
          canceled ? "Somebody canceled the download" : "The connection to the hive broke off"
        }. Joining it again (${rejoins + 1}/${DOWNLOAD_REJOINS}).`,
      );
    } finally {
      stream.abort();
    }
  }
}

async function follow(
  hive: HiveClient,
  download: { id: string; hiveUrl: string; stream: AbortSignal },
  context: PhaseContext,
): Promise<string> {
  const { output } = context;
  let last: DownloadFigures | undefined;
  const finished = () => {
    if (last === undefined) return;
    const whole = { ...last, bytes_downloaded: last.bytes_total, eta_seconds: 0 };
    output.progress(STAGES.downloading, downloadLine(whole));
    last = undefined;
  };
  using connection = watchConnection(download.hiveUrl, download.stream);
  const { events } = await hive.downloadProgress(download.id, {
    signal: connection.signal,
    onActivity: connection.onActivity,
  });
  for await (const event of events) {
    // Nothing is shown after Ctrl+C, while the hive is being told.
    if (context.signal.aborted) continue;
    switch (event.stage) {
      case "downloading":
        last = event;
        output.progress(STAGES.downloading, downloadLine(event));
        break;
      case "retrying":
        output.say(
          `The download broke off: ${event.reason}. Retry ${event.attempt}/${event.max_attempts} in ${event.delay_ms} ms.`,
        );
        break;
      case "verifying":
        finished();
        output.progress(STAGES.verifying, STAGES.verifying);
        break;
      case "complete":
        finished();
        return event.local_path;
      case "error":
        throw errorFromBody(event.error);
    }
  }
  throw new StreamCutError();
}

/** Tells the hive to stop; resolves to what is to be thrown. */
async function stopDownload(hive: HiveClient, id: string, reason: unknown): Promise<unknown> {
  let note = "Canceled. What was downloaded is kept for the next try.";
  try {
    const { canceled } = await hive.cancelDownload(id, { timeoutMs: CANCEL_TIMEOUT_MS });
    if (!canceled) note = "Canceled here. The download goes on for others who wait for it.";
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    note = "Canceled (the hive may go on downloading).";
  }
  return reason instanceof Interrupted ? new Interrupted(note, reason.exitCode) : reason;
}

function connectionLost(cause: unknown): RbeeError {
  return new RbeeError(
    "NODE_UNREACHABLE",
    `The connection to the hive broke off ${DOWNLOAD_REJOINS + 1} times while it was downloading`,
    { cause },
  );
}

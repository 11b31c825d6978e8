/** A download at a real hive, from the request to its end. */
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import type { RunningHive } from "./daemons.ts";
import type { Hub } from "./hub.ts";

/**
 * Asks a hive for a model and follows the download; `onEvent` is told of every event, of none when the model is there.
 *
 * @returns where it is.
 * @throws {Error} with what the hive logged, when the download ends otherwise.
 */
export async function pull(
  hive: RunningHive,
  ref: string,
  onEvent: (event: DownloadEvent) => unknown = () => {},
): Promise<string> {
  const answer = await hive.client.download(ref);
  if ("local_path" in answer) return answer.local_path;
  const { events } = await hive.client.downloadProgress(answer.download_id);
  for await (const event of events) {
    onEvent(event);
    if (event.stage === "complete") return event.local_path;
    if (event.stage === "error") throw new Error(`${event.error.message}\n${hive.logs()}`);
  }
  throw new Error("The events ended before the download");
}

/** Bytes of files that the hub has sent, in all answers. */
export function hubBytes(hub: Hub): number {
  return hub.requestsFor({ purpose: "content" }).reduce((sum, { sentBytes }) => sum + sentBytes, 0);
}

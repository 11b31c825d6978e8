/** How commands call a queen. */
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import { withPlace } from "../failure.ts";
import { placeOfQueen, type QueenAddress, queenOf } from "../queen.ts";

/** Calls a queen. Errors name it as the place where they happened. */
export async function ask<T>(
  queen: QueenAddress,
  place: LoadedConfig,
  { correlationId, work }: { correlationId: string; work: (client: QueenClient) => Promise<T> },
): Promise<T> {
  return await withPlace(
    { node: placeOfQueen(queen), configPath: place.path },
    () => work(new QueenClient({ baseUrl: queen.url, apiKey: queen.apiKey, correlationId })),
  );
}

/** Calls the queen that is meant: the one that is named, else the one that runs on this machine. */
export async function askMeant<T>(
  flags: { queen?: string },
  signal: AbortSignal,
  work: (client: QueenClient, options: { signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  const place = await loadConfig();
  const { hostname, port } = place.config.queen.listen;
  const own = `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
  const queen = await queenOf({ queen: flags.queen ?? place.config.keeper.queen ?? own }, place);
  return await ask(queen!, place, {
    correlationId: newCorrelationId(),
    work: (client) => work(client, { signal }),
  });
}

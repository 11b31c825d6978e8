/** What every command about other machines begins with: the configuration, and a place for errors to name. */
import { loadConfig, type LoadedConfig } from "../home/config.ts";
import { hiveLogPath } from "../home/paths.ts";
import type { Place } from "./explain.ts";
import { withPlace } from "./failure.ts";

/** Runs `work` with the configuration. Errors of the catalogue leave it with the place, as far as `work` filled it in. */
export async function withConfig<T>(work: (config: LoadedConfig, place: Place) => Promise<T>): Promise<T> {
  const place: Place = {};
  return await withPlace(place, async () => {
    const config = await loadConfig();
    Object.assign(place, { configPath: config.path, hiveLog: hiveLogPath(config.home) });
    return await work(config, place);
  });
}

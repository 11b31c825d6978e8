/** `pool health`: is a machine's hive well? */
import { newCorrelationId } from "../../protocol/correlation.ts";
import { VERSION } from "../../protocol/version.ts";
import type { LoadedCommand } from "../cli.ts";
import type { PoolHealthFlags } from "../table/pool.ts";
import type { CommandContext } from "../context.ts";
import { hiveHealth } from "../phases/reach_hive.ts";
import { nodeOf } from "../phases/with_hive.ts";
import { withConfig } from "../with_config.ts";

/** The command. */
export const POOL_HEALTH: LoadedCommand<PoolHealthFlags> = { run: runPoolHealth };

async function runPoolHealth({ output, signal }: CommandContext, flags: PoolHealthFlags): Promise<number> {
  return await withConfig(async (config, place) => {
    const context = { output, signal, correlationId: newCorrelationId() };
    const node = await nodeOf({ ...flags, node: flags.host }, { config, place }, context);
    const health = await hiveHealth(node, context);
    if (output.json) await output.document({ node: node.name, url: node.url, ...health });
    else {
      await output.line(`${node.name}: ${health.status}, version ${health.version}, ${node.url}`);
      if (health.version !== VERSION) output.say(`This keeper is ${VERSION}: the versions differ.`);
    }
    return 0;
  });
}

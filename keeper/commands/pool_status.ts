/** `pool status`: one machine, what it has and what runs on it. */
import type { CapabilitiesResponse } from "../../protocol/hive_schemas.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { withHive } from "../phases/with_hive.ts";
import type { PoolStatusFlags } from "../table/pool.ts";
import { textTable } from "../text_table.ts";
import { workerColumns } from "../worker_columns.ts";

/** The command. */
export const POOL_STATUS: LoadedCommand<PoolStatusFlags> = { run: runPoolStatus };

const MB_PER_GB = 1_000;

async function runPoolStatus(context: CommandContext, flags: PoolStatusFlags): Promise<number> {
  const wanted = { ...flags, node: flags.host };
  return await withHive(wanted, context, async ({ client, node }, { output, signal }) => {
    const [capabilities, { workers }] = await Promise.all([
      client.capabilities({ signal }),
      client.workers({ signal }),
    ]);
    if (output.json) {
      await output.document({ node: node.name, url: node.url, ...capabilities, workers });
      return 0;
    }
    await output.line(`${node.name}: ${node.url}, version ${capabilities.versions.rbee}`);
    for (const line of machineLines(capabilities)) await output.line(line);
    if (workers.length === 0) output.say("No workers run there.");
    else await output.text(`\n${textTable(workers.map(workerColumns))}`);
    return 0;
  }, { onlyRunning: true });
}

function machineLines({ devices, memory, disk, cpu }: CapabilitiesResponse): string[] {
  const gb = (mb: number) => `${(mb / MB_PER_GB).toFixed(1)} GB`;
  return [
    ...devices.map((device) =>
      `${device.backend} ${device.index}: ${device.name}, ${gb(device.memory_free_mb)} of ${
        gb(device.memory_total_mb)
      } free`
    ),
    `memory: ${gb(memory.free_mb)} of ${gb(memory.total_mb)} free`,
    `disk: ${gb(disk.free_mb)} of ${gb(disk.total_mb)} free (${disk.models_dir})`,
    ...(cpu === undefined
      ? []
      : [`cores: ${cpu.cores}, load ${cpu.load_average.map((load) => load.toFixed(2)).join(" ")}`]),
  ];
}

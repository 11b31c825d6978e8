/** What a thousand hives report to a simulated queen. */
import { encodeBlocks } from "../protocol/prefix_blocks.ts";
import type { HeartbeatInput } from "../protocol/queen_schemas.ts";
import type { Random } from "../tests/soak/random.ts";

export const HIVES = 1_000;
export const WORKERS_PER_HIVE = 10;
export const SLOTS = 4;
export const MODELS = 100;
export const BLOCKS_PER_WORKER = 64;
/** Sessions whose prompts begin alike. */
export const PREFIXES = 5_000;

/** Every prefix is held by some workers. */
export function blocksOf(prefix: number): number[] {
  return [0, 1, 2, 3].map((block) => prefix * 16 + block + 1);
}

/** The first report of one of them. */
export function reportOf(hive: number, random: Random): HeartbeatInput {
  return {
    node_name: `hive-${hive}`,
    instance: `instance-${hive}`,
    hive_url: `http://10.0.${hive >> 8}.${hive & 255}:9200`,
    api_key: "key-of-the-hive",
    version: "0.1.0",
    memory: { total_mb: 64_000, free_mb: 8_000, reserve_mb: 512 },
    devices: [{
      ...{ backend: "cpu", index: 0, name: "CPU", description: "a processor" },
      ...{ memory_total_mb: 64_000, memory_free_mb: 8_000 },
    }],
    models: Array.from(
      { length: 10 },
      (_, i) => ({ model_ref: `model-${(hive * 10 + i) % MODELS}`, size_bytes: 4e9 }),
    ),
    workers: Array.from({ length: WORKERS_PER_HIVE }, (_, i) => ({
      ...{
        worker_id: `worker-${hive}-${i}`,
        url: `http://10.0.${hive >> 8}.${hive & 255}:${8001 + i}`,
        api_key: "key",
      },
      ...{ model_ref: `model-${(hive * 10 + i) % MODELS}`, backend: "cpu", device: 0, state: "idle" },
      ...{
        slots_total: SLOTS,
        slots_available: SLOTS,
        pinned: false,
        memory_mb: 5_000,
        last_activity_unix: 0,
      },
      ...{ context: 4_096, embeds: false },
      blocks: encodeBlocks(
        Array.from({ length: BLOCKS_PER_WORKER / 4 }, () => blocksOf(random.integer(0, PREFIXES - 1))).flat(),
      ),
    })),
  };
}

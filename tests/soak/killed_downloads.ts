/**
 * Part of `deno task soak`: two hundred downloads of 200 MB, the hive of each killed (SIGKILL) at a random byte or a
 * moment after the last one, and started again. Each has to end with the right bytes, and hardly any may be fetched
 * twice. The line is the bottleneck, as it is at home: what the hub has handed to it is what came. Exit status 1 when
 * anything was wrong.
 */
import { delay } from "@std/async";
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { digestOf } from "../../hive/models/following_digest.ts";
import type { HiveClient } from "../../protocol/hive_client.ts";
import { startHive } from "../helpers/daemons.ts";
import { type Hub, startHub } from "../helpers/hub.ts";
import { HubBlob } from "../helpers/hub_content.ts";
import { largeModel } from "../helpers/large_model.ts";
import { hubBytes, pull } from "../helpers/pull.ts";
import { type TempHome, tempHome } from "../helpers/temp_home.ts";
import { Random } from "./random.ts";

const REPO = "acme/large";
const REF = `hf:${REPO}`;
const FILE_BYTES = 200_000_000;
/** Of each connection; eight of them are as fast as a gigabit line. */
const BYTES_PER_SECOND = 15_000_000;
/** Of all runs, those that are killed when all bytes have come: while they reach the disk and get their name. */
const LATE_PERCENT = 15;
/** How long after the last byte. */
const LATEST_MS = 200;
/** Of the file, on average. */
const MAX_TWICE_PERCENT = 2;
const PROGRESS_LINES = 20;

const FLAGS = {
  kills: { type: "integer", value: "N", min: 1, max: 1_000_000, default: 200, help: "How many." },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: killed_downloads.ts [--kills N] [--seed N]"].join("\n"));
    Deno.exit(2);
  }
  Deno.exit(await soak(flags));
}

async function soak({ kills, seed }: { kills: number; seed: number }): Promise<number> {
  const content = largeModel(FILE_BYTES);
  const digestHex = await new HubBlob(content).sha256();
  const twice: number[] = [];
  let problems = 0;
  const startedMs = performance.now();
  for (let number = 0; number < kills; number++) {
    const random = new Random(seed, number);
    await using hub = await startHub({
      repos: { [REPO]: { files: { "large-Q4_K_M.gguf": content } } },
      bytesPerSecond: BYTES_PER_SECOND,
    });
    await using home = await tempHome({ hfEndpoint: hub.url });
    try {
      const cameBytes = await killInDownload({ hub, home, random, sizeBytes: content.generate });
      const sentToTheDead = hubBytes(hub);
      const path = await finishDownload(home);
      const file = { path, size: content.generate, digest: { algorithm: "sha256" } } as const;
      if (await digestOf(file) !== digestHex) throw new Error("the file has other bytes");
      twice.push(cameBytes + hubBytes(hub) - sentToTheDead - content.generate);
    } catch (error) {
      problems++;
      console.log(
        `failed: kill ${number} of seed ${seed}: ${error instanceof Error ? error.message : error}`,
      );
    }
    if ((number + 1) % Math.ceil(kills / PROGRESS_LINES) === 0) console.log(summary(number + 1, twice));
  }
  const averagePercent = 100 * average(twice) / content.generate;
  if (!(averagePercent <= MAX_TWICE_PERCENT)) problems++;
  const seconds = (performance.now() - startedMs) / 1000;
  console.log(`killed downloads: ${summary(kills, twice)} in ${seconds.toFixed(0)} s; ${problems} problems`);
  return problems === 0 ? 0 : 1;
}

/** Returns how many bytes had been sent when the hive was killed. */
async function killInDownload(
  run: { hub: Hub; home: TempHome; random: Random; sizeBytes: number },
): Promise<number> {
  const { hub, home, random, sizeBytes } = run;
  const late = random.chance(LATE_PERCENT);
  const atBytes = late ? sizeBytes : random.integer(1, sizeBytes);
  const afterMs = late ? random.integer(0, LATEST_MS) : 0;
  await using hive = await startHive({ home });
  await startDownload(hive.client);
  await hub.until((hub) => hubBytes(hub) >= atBytes);
  if (afterMs > 0) await delay(afterMs);
  const cameBytes = hubBytes(hub);
  await hive.kill();
  return cameBytes;
}

/** With a new hive; returns where the file is. */
async function finishDownload(home: TempHome): Promise<string> {
  await using hive = await startHive({ home });
  return await pull(hive, REF);
}

async function startDownload(client: HiveClient): Promise<void> {
  const answer = await client.download(REF);
  if ("local_path" in answer) throw new Error("the model was there before its download");
}

function summary(kills: number, twice: readonly number[]): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(2);
  return `${kills} kills, ${twice.length} ended with the right bytes; fetched twice: ` +
    `${megabytes(average(twice))} MB on average (${(100 * average(twice) / FILE_BYTES).toFixed(2)} %), ` +
    `${megabytes(Math.max(0, ...twice))} MB at most`;
}

function average(figures: readonly number[]): number {
  return figures.reduce((sum, figure) => sum + figure, 0) / figures.length;
}

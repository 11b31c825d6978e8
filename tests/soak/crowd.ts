/**
 * Part of `deno task soak`: fifty keepers of one person at once against one hive and its one worker of four slots. Each
 * has to end with an answer or with EC6's error, and the registry they share must be whole. Exit status 1 otherwise.
 */
import { DatabaseSync } from "node:sqlite";
import { join } from "@std/path";
import { runKeeper } from "../../keeper/testing/keeper_process.ts";
import { startHive } from "../helpers/daemons.ts";
import { tempHome } from "../helpers/temp_home.ts";
import { keeperHome } from "../helpers/keeper_home.ts";

const KEEPERS = 50;
const SLOTS = 4;
const TOKENS = 40;
/** A hang is told from slowness by this. */
const PATIENCE_MS = 180_000;

if (import.meta.main) Deno.exit(await soak());

async function soak(): Promise<number> {
  await using hiveHome = await tempHome();
  await using hive = await startHive({ home: hiveHome, worker: { tokenMs: 20 } });
  await using home = await keeperHome({ mac: hive }, { node: "mac" });
  const startedMs = performance.now();
  const args = ["infer", "--prompt", "x", "--slots", String(SLOTS), "--max-tokens", String(TOKENS), "--json"];
  let late: ReturnType<typeof setTimeout> | undefined;
  const ended = await Promise.race([
    Promise.all(Array.from({ length: KEEPERS }, () => runKeeper(args, { home }))),
    new Promise<undefined>((resolve) => late = setTimeout(() => resolve(undefined), PATIENCE_MS)),
  ]);
  clearTimeout(late);
  if (ended === undefined) {
    console.log(`crowd: not all of ${KEEPERS} keepers had ended after ${PATIENCE_MS / 1000} s`);
    return 1;
  }
  const lastOf = (text: string) => JSON.parse(text.trim().split("\n").at(-1) ?? "{}");
  const answers =
    ended.filter(({ code, stdout }) => code === 0 && lastOf(stdout).total_tokens === TOKENS).length;
  const busy =
    ended.filter(({ code, stdout }) => code === 1 && lastOf(stdout).error?.code === "ALL_SLOTS_BUSY").length;
  for (const { code, stderr } of ended.filter(({ code }) => code !== 0).slice(busy)) {
    console.log(`code ${code}: ${stderr}`);
  }
  const { workers } = await hive.client.workers();
  using database = new DatabaseSync(join(home.path, "keeper.db"));
  const integrity = String(database.prepare("PRAGMA integrity_check").get()?.integrity_check);
  const rows = database.prepare("SELECT id FROM workers").all().map(({ id }) => String(id));
  const isTrue = integrity === "ok" && rows.every((id) => workers.some(({ worker_id }) => worker_id === id));
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
  console.log(
    `crowd: of ${KEEPERS} keepers ${answers} got an answer and ${busy} were told that all slots are busy, in ${seconds} s; ` +
      `${workers.length} worker(s), registry ${isTrue ? "whole" : `damaged: ${integrity}, ${rows}`}`,
  );
  return answers + busy === KEEPERS && answers >= SLOTS && workers.length === 1 && isTrue ? 0 : 1;
}

/** `logs`: what a machine's hive and its workers write. */
import { bold, dim, red, yellow } from "@std/fmt";
import { RbeeError } from "../../protocol/errors.ts";
import type { LogLine } from "../../protocol/hive_schemas.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import type { LoadedCommand } from "../cli.ts";
import { watchConnection } from "../connection_watch.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { LOG_FOLLOW_REJOINS } from "../limits.ts";
import type { Output, Piece } from "../output.ts";
import type { ReachedHive } from "../phases/reach_hive.ts";
import { withHive } from "../phases/with_hive.ts";
import { nodeOfWorker } from "../queens_node.ts";
import type { LogsFlags } from "../table/system.ts";

/** The command. */
export const LOGS: LoadedCommand<LogsFlags> = { check: checkLogsFlags, run: runLogs };

const SECONDS_PER: Record<string, number> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** `10m` is ten minutes ago; anything else is a time as the hive reads it. */
function sinceOf(text: string, nowMs = Date.now()): string | undefined {
  const span = /^(\d{1,6})([smhd])$/.exec(text);
  if (span !== null) return String(nowMs / 1000 - Number(span[1]) * SECONDS_PER[span[2]]);
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? undefined : String(atMs / 1000);
}

function checkLogsFlags({ since }: Partial<LogsFlags>): string[] {
  if (since === undefined || sinceOf(since) !== undefined) return [];
  return [
    `--since takes a span like 10m (s, m, h, d) or a time like 2030-01-31T12:00:00Z, not "${
      since.slice(0, 80)
    }".`,
  ];
}

async function runLogs(context: CommandContext, flags: LogsFlags): Promise<number> {
  return await withHive(flags, context, async (hive, phases) => {
    const { output, signal } = phases;
    const wanted = { workerId: flags.worker, since: flags.since && sinceOf(flags.since), tail: flags.tail };
    if (flags.follow) {
      await follow(hive, wanted, phases);
      return 0;
    }
    const lines = await hive.client.logs(wanted, { signal });
    for (const line of lines) await show(line, output);
    if (lines.length === 0) output.say("There are no such lines.");
    return 0;
  }, { onlyRunning: true, choose: flags.worker === undefined ? undefined : nodeOfWorker(flags.worker) });
}

/** A connection that breaks off is opened again where it was. */
async function follow(
  hive: ReachedHive,
  wanted: { workerId?: string; since?: string; tail?: number },
  context: PhaseContext,
): Promise<void> {
  const { output } = context;
  let next = wanted;
  for (let rejoins = 0;;) {
    using connection = watchConnection(hive.node.url, context.signal);
    try {
      const options = { signal: connection.signal, onActivity: connection.onActivity };
      const { events } = await hive.client.followLogs(next, options);
      for await (const line of events) {
        rejoins = 0;
        next = { workerId: wanted.workerId, since: String(Date.parse(line.time) / 1000 + 0.001) };
        await show(line, output);
      }
      return;
    } catch (error) {
      context.signal.throwIfAborted();
      const broken = error instanceof StreamCutError ||
        (error instanceof RbeeError && error.code === "NODE_UNREACHABLE");
      if (!broken || ++rejoins > LOG_FOLLOW_REJOINS) throw error;
      output.say(`The connection to the hive broke off. Joining again (${rejoins}/${LOG_FOLLOW_REJOINS}).`);
    }
  }
}

async function show(line: LogLine, output: Output): Promise<void> {
  if (output.json) await output.document(line);
  else await output.painted(...pieces(line, output.colors));
}

const LEVELS = { error: red, warn: yellow, info: (text: string) => text, debug: dim };

/** Without colours the level is a word. */
function pieces({ time, source, worker_id, level, message, fields }: LogLine, colors: boolean): Piece[] {
  const { correlation_id: _id, ...told } = fields;
  const pairs = Object.entries(told).map(([name, value]) =>
    ` ${name}=${typeof value === "string" && /^\S+$/.test(value) ? value : JSON.stringify(value)}`
  ).join("");
  const who = source === "hive" ? "hive" : worker_id ?? "worker";
  const about = source === "hive" && worker_id !== undefined ? ` worker_id=${worker_id}` : "";
  const word = colors ? "" : `${(level ?? "-").toUpperCase()} `;
  return [
    { text: time.replace("T", " ").slice(0, 23), paint: dim },
    { text: " " },
    { text: who, paint: bold },
    { text: ` ${word}` },
    { text: message, paint: level === undefined ? dim : LEVELS[level] },
    { text: about + pairs, paint: dim },
  ];
}

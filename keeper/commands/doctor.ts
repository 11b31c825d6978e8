/** `doctor`: what is installed, reachable and wrong, and what to do about it. */
import { bold, green, red, yellow } from "@std/fmt";
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { type Finding, ok, problem } from "../doctor/findings.ts";
import { LOOKS, runtime } from "../doctor/looks.ts";
import type { Output } from "../output.ts";
import type { DoctorFlags } from "../table/system.ts";

/** The command. */
export const DOCTOR: LoadedCommand<DoctorFlags> = { run: runDoctor };

async function runDoctor({ output, signal }: CommandContext): Promise<number> {
  output.progress("Looking around...", "Looking around...");
  const findings = [runtime(), ...await lookAround(signal)];
  output.restore();
  const count = (level: Finding["level"]) => findings.filter((finding) => finding.level === level).length;
  const problems = count("problem");
  if (output.json) {
    await output.document({ findings, problems, warnings: count("warning") });
  } else {
    for (const finding of findings) await show(finding, output);
    const rest = count("warning");
    output.say(
      problems + rest === 0
        ? "All is well."
        : `${problems} ${problems === 1 ? "problem" : "problems"}, ${rest} ${
          rest === 1 ? "warning" : "warnings"
        }.`,
    );
  }
  return problems === 0 ? 0 : 1;
}

async function lookAround(signal: AbortSignal): Promise<Finding[]> {
  let config: LoadedConfig;
  try {
    config = await loadConfig();
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    return [problem("config", error.message, "Mend it; the rest was not looked at.")];
  }
  const found = await Promise.all(LOOKS.map(async (look) => {
    try {
      return await look({ config, signal });
    } catch (error) {
      signal.throwIfAborted();
      // One that fails must not hide what the others found.
      return [
        problem(look.name, `could not be looked at: ${(error as Error).message}`, "Run this command again."),
      ];
    }
  }));
  return [ok("config", `${config.path} is sound`), ...found.flat()];
}

const MARKS = { ok: "ok     ", warning: "warning", problem: "problem" } as const;
const PAINTS = { ok: green, warning: yellow, problem: red } as const;

async function show({ check, level, what, remedy }: Finding, output: Output): Promise<void> {
  const mark = { text: MARKS[level], paint: PAINTS[level] };
  await output.painted(mark, { text: "  " }, { text: check, paint: bold }, { text: `: ${what}` });
  if (remedy !== undefined) await output.line(`         ${remedy}`);
}

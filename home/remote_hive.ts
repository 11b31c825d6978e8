/** The hive of another machine, over ssh: what a keeper and a queen have to say there. */
import { RbeeError } from "../protocol/errors.ts";
import { runOver, type SshOptions } from "./ssh.ts";

/** Where rbee is installed on other machines, below the user's home folder. */
export const DEFAULT_INSTALL_PATH = ".local/share/rbee";
/** Starts the hive there, unless it runs; within {@linkcode inFolder}. */
export const START_HIVE = "./rbee-keeper daemon start --json";
/** Stops it. */
export const STOP_HIVE = "./rbee-keeper daemon stop --json";

/** A script that goes where rbee is installed, or says that it is not. `folder` is a word for a shell. */
export function inFolder(folder: string, script: string): string {
  return `cd && cd ${folder} 2>/dev/null && test -x ./rbee-keeper || { echo "rbee is not installed in $HOME/"${folder} >&2; exit 66; }
${script}`;
}

/**
 * Runs a script on a machine. Its own failure is about the machine, not a defect of this program.
 *
 * @throws {RbeeError} `NODE_UNREACHABLE` with what was said there.
 */
export async function there(name: string, ssh: string, options: SshOptions): Promise<string> {
  try {
    return await runOver(ssh, options);
  } catch (error) {
    if (!(error instanceof RbeeError) || error.code !== "INTERNAL") throw error;
    const said = (error.details.log_tail as string[]).at(-1) ?? `exit code ${error.details.exit_code}`;
    throw new RbeeError("NODE_UNREACHABLE", `${name} could not do it: ${said}`, {
      details: {
        ...error.details,
        advice: error.details.exit_code === 66 ? [`Install it: rbee-keeper nodes install ${name}`] : [],
      },
      cause: error,
    });
  }
}

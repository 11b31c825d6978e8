/** `completions`: a script for a shell. */
import type { LoadedCommand } from "../cli.ts";
import { COMMANDS } from "../command_table.ts";
import { completionScript, type Shell, SHELLS } from "../completions.ts";
import type { CompletionsFlags } from "../table/system.ts";

/** The command. */
export const COMPLETIONS: LoadedCommand<CompletionsFlags> = {
  async run({ output }, { shell }) {
    // The table takes these and no others.
    const known: Shell = SHELLS.find((each) => each === shell)!;
    await output.text(completionScript(known, COMMANDS));
    return 0;
  },
};

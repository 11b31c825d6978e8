/** `man`: the manual page, for `man -l -` or a package. */
import { VERSION } from "../../protocol/version.ts";
import type { LoadedCommand } from "../cli.ts";
import { COMMANDS } from "../command_table.ts";
import { manPage } from "../man_page.ts";

/** The command. */
export const MAN: LoadedCommand<Record<never, never>> = {
  async run({ output }) {
    await output.text(manPage(COMMANDS, VERSION));
    return 0;
  },
};

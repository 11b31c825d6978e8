/** The same command where the machine is called `--host`. */
import type { LoadedCommand } from "../cli.ts";

/** Takes `--host` for what the command knows as `--node`. */
export function onHost<Flags extends { node?: string }>(
  command: LoadedCommand<Flags>,
): LoadedCommand<Omit<Flags, "node"> & { host: string }> {
  const named = <T extends { host?: string }>({ host, ...flags }: T) =>
    ({ ...flags, node: host }) as unknown as Flags;
  return {
    check: (flags) => command.check?.(named(flags)) ?? [],
    run: (context, flags) => command.run(context, named(flags)),
  };
}

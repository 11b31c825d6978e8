/** Telling processes apart: a pid alone may be somebody else's by now. */

/**
 * What tells a process from every other one that ever had its pid: boot and start time. Undefined when there is no
 * such process or it is a zombie. Starts a small program to look, because Deno opens `/proc` to nobody but a program
 * with all permissions.
 *
 * @throws {Error} when that program can't be started.
 */
export async function processIdentity(pid: number): Promise<string | undefined> {
  if (Deno.build.os !== "linux") {
    const [state, ...started] = (await outputOf(["ps", "-o", "stat=,lstart=", "-p", String(pid)])).split(
      /\s+/,
    );
    return state === "" || state.startsWith("Z") ? undefined : started.join(" ");
  }
  const [boot, stat = ""] = (await outputOf([
    "cat",
    "/proc/sys/kernel/random/boot_id",
    `/proc/${pid}/stat`,
  ])).split("\n");
  // The second field is the program's name in brackets and may hold anything; proc_pid_stat(5) counts from there.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, started] = [fields[0], fields[19]];
  return started === undefined || state === "Z" || state === "X" ? undefined : `${boot}/${started}`;
}

/** What a small program prints, without the space around it; its errors go nowhere. */
export async function outputOf([program, ...args]: string[]): Promise<string> {
  const output = await new Deno.Command(program, {
    args,
    env: { LC_ALL: "C" },
    stdin: "null",
    stderr: "null",
  }).output();
  return new TextDecoder().decode(output.stdout).trim();
}

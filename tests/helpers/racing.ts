// Several programs that do one thing at the same moment: for what must hold across processes.

/** Runs before the program's text: it announces itself and waits for the start. */
const STARTING_GATE = `
await Deno.stdout.write(new TextEncoder().encode("ready\\n"));
await Deno.stdin.read(new Uint8Array(1));
`;

/**
 * Starts `count` processes that import `modules` (URLs by name), lets all of them run `program` at once and returns
 * what each wrote to stdout. A process that fails makes it throw with that process's stderr.
 */
export async function raceInProcesses(
  program: string,
  options: { count: number; modules: Record<string, string> },
): Promise<string[]> {
  const imports = Object.entries(options.modules)
    .map(([names, url]) => `import { ${names} } from ${JSON.stringify(url)};\n`);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const code = imports.join("") + STARTING_GATE + program;
  const children = Array.from({ length: options.count }, () =>
    new Deno.Command(Deno.execPath(), {
      args: ["eval", "-q", "--no-check", "--config", config, code],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn());
  const readers = children.map(({ stdout }) => stdout.pipeThrough(new TextDecoderStream()).getReader());
  const errors = children.map(({ stderr }) => new Response(stderr).text());
  await Promise.all(readers.map((reader) => reader.read()));
  await Promise.all(children.map(async ({ stdin }) => {
    const writer = stdin.getWriter();
    await writer.write(new Uint8Array([10])).catch(() => {});
    await writer.close().catch(() => {});
  }));
  return await Promise.all(children.map(async ({ status }, i) => {
    let output = "";
    for (let read = await readers[i].read(); !read.done; read = await readers[i].read()) output += read.value;
    if (!(await status).success) throw new Error(`A racing process failed: ${await errors[i]}`);
    await errors[i];
    return output;
  }));
}

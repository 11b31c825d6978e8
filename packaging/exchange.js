/**
 * `deno run --allow-ffi exchange.js A B`: A and B take each other's place in one step, so that there is no moment at
 * which one of them is missing. Exit status 1 where the file system can't do that; nothing has changed then.
 */
const [from, to] = Deno.args.map((path) => new TextEncoder().encode(`${path}\0`));

/** rename(2): relative paths start at the working folder; the two are exchanged. */
const AT_FDCWD = -100;
const RENAME_EXCHANGE = 2;

function onLinux() {
  const parameters = ["i32", "buffer", "i32", "buffer", "u32"];
  const { symbols } = Deno.dlopen("libc.so.6", { renameat2: { parameters, result: "i32" } });
  return symbols.renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE);
}

function onDarwin() {
  const parameters = ["buffer", "buffer", "u32"];
  const { symbols } = Deno.dlopen("libSystem.dylib", { renamex_np: { parameters, result: "i32" } });
  return symbols.renamex_np(from, to, RENAME_EXCHANGE);
}

Deno.exit((Deno.build.os === "darwin" ? onDarwin() : onLinux()) === 0 ? 0 : 1);

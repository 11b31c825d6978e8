// Narrow on purpose: @std/cli as a whole loads prompts and a table of character widths that no part needs.
// @ts-types="./cli.d.ts"
export * from "deno-std/cli/parse_args.js";

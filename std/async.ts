// Narrow on purpose: no part needs the rest.
// @ts-types="./async.d.ts"
export { delay } from "deno-std/async/delay.js";
export { abortable } from "deno-std/async/abortable.js";

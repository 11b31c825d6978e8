// @ts-types="./text.d.ts"
export { closestString } from "deno-std/text/closest_string.js";

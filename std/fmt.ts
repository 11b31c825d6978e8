// @ts-types="./fmt.d.ts"
export { bold, dim, green, red, yellow } from "deno-std/fmt/colors.js";

// Narrow on purpose: @std/path as a whole brings Windows' rules, which no machine of rbee has, and takes as long to load
// as the rest of the standard library.
// @ts-types="./path.d.ts"
export { basename } from "deno-std/path/posix/basename.js";
export { dirname } from "deno-std/path/posix/dirname.js";
export { fromFileUrl } from "deno-std/path/posix/from_file_url.js";
export { isAbsolute } from "deno-std/path/posix/is_absolute.js";
export { join } from "deno-std/path/posix/join.js";
export { relative } from "deno-std/path/posix/relative.js";
export { resolve } from "deno-std/path/posix/resolve.js";

/** How urgent work is. */
import * as z from "zod";

/** `batch` waits until nothing that is `interactive` does, or for long enough. */
export const Priority = z.enum(["interactive", "batch"]);
/** See {@linkcode Priority}. */
export type Priority = z.infer<typeof Priority>;

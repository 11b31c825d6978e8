/** Where rbee is installed on another machine. */
import * as z from "zod";

/** Below the user's home folder unless absolute. One word for a shell, and no way out of where it points. */
export const InstallPath: z.ZodType<string> = z.string().regex(
  /^(?=.*[^/])(?!(?:.*\/)?\.{1,2}(?:\/|$))[A-Za-z0-9._/][A-Za-z0-9._/-]{0,255}$/,
  "expected a path of letters, digits, . _ - and /, without . or .. between slashes",
);

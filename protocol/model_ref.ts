/** Model references as a person writes them (SPEC §2), parsed once at the edge. */
import * as z from "zod";
import { RbeeError } from "./errors.ts";
import { printable } from "./printable.ts";

/** A parsed reference. `text` is the normal form: it identifies the model in catalogs, registries and logs. */
export type ModelRef =
  | {
    provider: "hf";
    text: string;
    /** `OWNER/REPO`. */
    repo: string;
    /** A quantisation name (`Q4_K_M`) or a file name; absent: the first present of {@linkcode QUANT_PREFERENCE}. */
    selector?: string;
    /** Branch, tag or commit; absent: `main`. */
    revision?: string;
  }
  | { provider: "file"; text: string; path: string }
  | { provider: "builtin"; text: string; name: "stories" };

/** Which quantisation a bare repository reference means: the first one present. */
export const QUANT_PREFERENCE = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0", "F16"] as const;

/** The model that ships with rbee. */
export const DEFAULT_MODEL_REF = "builtin:stories";

const MAX_REF_CHARS = 512;
const NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}";
const HF = new RegExp(`^hf:(${NAME}/${NAME})(?::([^@:]{1,255}))?(?:@([A-Za-z0-9][A-Za-z0-9._/-]{0,127}))?$`);
const SELECTOR = /^[A-Za-z0-9][A-Za-z0-9._/-]*$/;

const FORMS =
  "expected hf:OWNER/REPO[:QUANT_OR_FILE][@REVISION], file:/absolute/path.gguf or builtin:stories";

/**
 * Parses a reference.
 *
 * @throws {RbeeError} `INVALID_REQUEST` naming the reference and the three forms.
 */
export function parseModelRef(text: string): ModelRef {
  const shown = `"${printable(text.slice(0, 120))}"`;
  const fail = (why: string): never => {
    throw new RbeeError("INVALID_REQUEST", `Model reference ${shown} is not valid: ${why}`, {
      details: { errors: [{ field: "model_ref", constraint: "format", message: why }] },
    });
  };
  if (text.length > MAX_REF_CHARS) fail(`longer than ${MAX_REF_CHARS} characters`);
  if (printable(text) !== text) fail("contains control characters");
  if (text === "builtin:stories") return { provider: "builtin", text, name: "stories" };
  if (text.startsWith("file:")) {
    const path = text.slice("file:".length);
    if (!path.startsWith("/")) fail("file: needs an absolute path");
    if (path.split("/").includes("..")) fail("the path may not contain ..");
    if (!path.toLowerCase().endsWith(".gguf")) fail("only .gguf files can be loaded");
    // One file, one text: catalogs and registries look it up by that.
    const normal = path.replace(/\/(?:\.?\/)+/g, "/");
    return { provider: "file", text: `file:${normal}`, path: normal };
  }
  const match = HF.exec(text);
  if (match === null) return fail(FORMS);
  const [, repo, selector, revision] = match;
  if (selector !== undefined && (!SELECTOR.test(selector) || hasDotSegment(selector))) fail(FORMS);
  // The hub knows no such names, and `--` is what its cache writes for the slash: two repositories, one folder.
  if (repo.includes("--") || repo.includes("..")) fail("a repository's name may not contain -- or ..");
  if (revision !== undefined && hasDotSegment(revision)) fail(FORMS);
  return { provider: "hf", text, repo, selector, revision };
}

/** A reference inside a request body: same rules, as a schema. The parsed value stays the text. */
export const ModelRefText: z.ZodType<string> = z.string().superRefine((text, context) => {
  try {
    parseModelRef(text);
  } catch (error) {
    const message = error instanceof RbeeError ? FORMS : String(error);
    context.addIssue({ code: "custom", message });
  }
});

function hasDotSegment(path: string): boolean {
  return path.split("/").some((segment) => segment === "." || segment === ".." || segment === "");
}

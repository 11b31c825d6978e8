/** Changing `config.yaml` for a person, whose comments and order stay as they are. */
import { dirname } from "@std/path";
import { type Document, parseDocument } from "yaml";
import { RbeeError } from "../protocol/errors.ts";
import { ConfigSchema } from "./config_schema.ts";
import { ensureHome, PRIVATE_FILE_MODE } from "./paths.ts";

/**
 * Changes the file at `path`, or makes it. Whoever reads meanwhile sees the old content or the new one, whole. Nothing
 * is written when the result would not be a valid configuration.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the file is no YAML or the change makes it invalid.
 */
export async function editConfig(
  place: { path: string; home: string },
  edit: (document: Document) => void,
): Promise<void> {
  const { path, home } = place;
  const { text, mode } = await contentOf(path);
  const document = parseDocument(text);
  if (document.errors.length > 0) {
    throw new RbeeError("INVALID_REQUEST", `${path} is no valid YAML; mend it first.`);
  }
  edit(document);
  const result = ConfigSchema.safeParse(document.toJS() ?? {});
  if (!result.success) {
    const { path: where, message } = result.error.issues[0];
    throw new RbeeError("INVALID_REQUEST", `${where.join(".")}: ${message}`);
  }
  await ensureHome(home);
  const aside = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeTextFile(aside, document.toString(), { createNew: true, mode });
    await Deno.rename(aside, path);
  } catch (cause) {
    await Deno.remove(aside).catch(() => {});
    const why = (cause as Error).message;
    throw new RbeeError("INVALID_REQUEST", `${path} cannot be written in ${dirname(path)}: ${why}`, {
      cause,
    });
  }
}

async function contentOf(path: string): Promise<{ text: string; mode: number }> {
  try {
    const { mode } = await Deno.stat(path);
    return { text: await Deno.readTextFile(path), mode: mode === null ? PRIVATE_FILE_MODE : mode & 0o777 };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { text: "", mode: PRIVATE_FILE_MODE };
    throw error;
  }
}

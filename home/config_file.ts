/** Changing `config.yaml` for a person, whose comments and order stay as they are. */
import { dirname } from "@std/path";
import { parse } from "@std/yaml";
import { type Document, parseDocument } from "yaml";
import { RbeeError } from "../protocol/errors.ts";
import { ConfigSchema } from "./config_schema.ts";
import { ensureHome, PRIVATE_FILE_MODE } from "./paths.ts";

/**
 * Changes the file at `path`, or the one behind that link, or makes it. Two changes at once come one after the other.
 * Whoever reads meanwhile sees the old content or the new one, whole. Nothing is written when the result would not be
 * a valid configuration.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the file is no YAML or the change makes it invalid.
 */
export async function editConfig(
  place: { path: string; home: string },
  edit: (document: Document) => void,
): Promise<void> {
  const { home } = place;
  await Deno.mkdir(dirname(place.path), { recursive: true, mode: 0o700 });
  // A link (of whoever keeps such files together elsewhere) stays one.
  const path = await Deno.realPath(place.path).catch(() => place.path);
  using _lock = await lockFolder(dirname(path));
  const { text, mode } = await contentOf(path);
  const document = parseDocument(text, { merge: true });
  if (document.errors.length > 0) {
    throw new RbeeError("INVALID_REQUEST", `${path} is no valid YAML; mend it first.`);
  }
  edit(document);
  const changed = document.toString();
  // As it will be read: that this editor's library would read it otherwise is of no importance.
  const result = ConfigSchema.safeParse(parse(changed) ?? {});
  if (!result.success) {
    const { path: where, message } = result.error.issues[0];
    throw new RbeeError("INVALID_REQUEST", `${where.join(".")}: ${message}`);
  }
  await ensureHome(home);
  const aside = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeTextFile(aside, changed, { createNew: true, mode });
    await Deno.rename(aside, path);
  } catch (cause) {
    await Deno.remove(aside).catch(() => {});
    const why = (cause as Error).message;
    throw new RbeeError("INVALID_REQUEST", `${path} cannot be written in ${dirname(path)}: ${why}`, {
      cause,
    });
  }
}

/** File systems without locks leave it to chance. */
async function lockFolder(folder: string): Promise<Disposable | undefined> {
  const file = await Deno.open(folder).catch(() => undefined);
  try {
    await file?.lock(true);
    return file;
  } catch {
    file?.close();
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

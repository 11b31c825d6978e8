/** Where tests find models. */
import { fromFileUrl, join } from "@std/path";

/** `builtin:stories` as it lies in the project. */
export const STORIES: string = fromFileUrl(
  new URL("../../models/rbee-stories-1.4M-Q8_0.gguf", import.meta.url),
);

/**
 * A model of the shared test collection, whose folder `RBEE_TEST_MODELS` names; undefined where there is none. Tests
 * that need it are then ignored by name.
 */
export function sharedModel(name: string): string | undefined {
  const folder = Deno.env.get("RBEE_TEST_MODELS");
  if (!folder) return undefined;
  const path = join(folder, name);
  try {
    Deno.statSync(path);
    return path;
  } catch {
    return undefined;
  }
}

/** A model by its file name, of the project or of the shared test collection. */
export function findModel(name: string): string | undefined {
  return STORIES.endsWith(`/${name}`) ? STORIES : sharedModel(name);
}

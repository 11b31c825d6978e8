/** Which model files are in use on this machine, by whatever name. */
import { fileBehind } from "../models/file_look.ts";
import type { FoundModel } from "../models/models_options.ts";

/** The files of workers, and of those who are about to become workers. */
export class FilesInUse {
  /** By what they are called, and as soon as that is known by where they really are, links followed. */
  readonly #wanted = new Set<{ path: string; behind?: string }>();

  /** From now until disposed nobody may remove this file. */
  want(path: string): Disposable {
    const wish: { path: string; behind?: string } = { path };
    this.#wanted.add(wish);
    void fileBehind(path).then((behind) => wish.behind = behind);
    return { [Symbol.dispose]: () => void this.#wanted.delete(wish) };
  }

  /** Whether the files of a model are in use or about to be. */
  has({ local_path, files }: Pick<FoundModel, "local_path" | "files">): boolean {
    return this.#wanted.values().some(({ path, behind }) => path === local_path || behind === files);
  }
}

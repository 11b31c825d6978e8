// One model repository of the stand-in hub: commits, branches, and the API's views of them.

import { createHash } from "node:crypto";
import { HubBlob, type HubContent } from "./hub_content.ts";

/** A file to put into a repository: its content, or content with more said about it. */
export type HubFileSpec = HubContent | {
  readonly content: HubContent;
  /** Stored by git LFS. Default: the file's name ends as models' do. */
  readonly lfs?: boolean;
  /** The SHA-256 that the hub publishes instead of the true one. */
  readonly sha256?: string;
};

/** A repository as first given to the hub. */
export interface HubRepoSpec {
  readonly files: Readonly<Record<string, HubFileSpec>>;
  /** Facts are public, files need a token that was granted access. Default: not gated. */
  readonly gated?: "auto" | "manual";
  /** Not even its existence shows without such a token. Default: false. */
  readonly private?: boolean;
}

/** Files that models' `.gitattributes` give to LFS. */
const LFS_NAME = /\.(gguf|safetensors|bin|pt|onnx)$/;

/** One file of a commit. `blob` can change under it: see `HubFault`'s `change`. */
export class HubFile {
  readonly path: string;
  readonly lfs: boolean;
  blob: HubBlob;
  #claimedSha256: string | undefined;

  constructor(path: string, spec: HubFileSpec) {
    const full = typeof spec === "object" && "content" in spec ? spec : { content: spec };
    this.path = path;
    this.lfs = full.lfs ?? LFS_NAME.test(path);
    this.blob = new HubBlob(full.content);
    this.#claimedSha256 = full.sha256;
  }

  /** The SHA-256 published for this file, true or not. */
  async sha256(): Promise<string> {
    return this.#claimedSha256 ?? await this.blob.sha256();
  }

  /** Git's id of what git itself stores: the content, or the pointer to it. */
  async gitOid(): Promise<string> {
    return this.lfs ? await new HubBlob(await this.#pointer()).gitOid() : await this.blob.gitOid();
  }

  /** The tree API's entry. */
  async entry(): Promise<Record<string, unknown>> {
    const entry = { type: "file", oid: await this.gitOid(), size: this.blob.size, path: this.path };
    return this.lfs ? { ...entry, lfs: { oid: await this.sha256(), ...await this.#lfsSizes() } } : entry;
  }

  /** The info API's entry; `blobs` asks for sizes and digests. */
  async sibling(options: { blobs: boolean }): Promise<Record<string, unknown>> {
    if (!options.blobs) return { rfilename: this.path };
    const entry = { rfilename: this.path, blobId: await this.gitOid(), size: this.blob.size };
    return this.lfs ? { ...entry, lfs: { sha256: await this.sha256(), ...await this.#lfsSizes() } } : entry;
  }

  async #lfsSizes(): Promise<{ size: number; pointerSize: number }> {
    return { size: this.blob.size, pointerSize: (await this.#pointer()).length };
  }

  async #pointer(): Promise<string> {
    const oid = await this.sha256();
    return `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${this.blob.size}\n`;
  }
}

type Commit = ReadonlyMap<string, HubFile>;

export class HubRepo {
  /** `owner/name`. */
  readonly name: string;
  readonly gated: "auto" | "manual" | false;
  readonly private: boolean;
  #commits = new Map<string, Commit>();
  #branches = new Map<string, string>();

  constructor(name: string, spec: HubRepoSpec) {
    this.name = name;
    this.gated = spec.gated ?? false;
    this.private = spec.private ?? false;
    this.commit(spec.files, "main");
  }

  /**
   * A new commit on `branch` (made if absent, from `main`) with these files added, replaced, or, where `null`,
   * removed. Returns its id. Earlier commits stay reachable by theirs.
   */
  commit(files: Readonly<Record<string, HubFileSpec | null>>, branch: string): string {
    const parent = this.#branches.get(branch) ?? this.#branches.get("main");
    const commit = new Map(parent === undefined ? [] : this.#commits.get(parent));
    for (const [path, spec] of Object.entries(files)) {
      if (spec === null) commit.delete(path);
      else commit.set(path, new HubFile(path, spec));
    }
    const id = createHash("sha1").update(`${this.name} ${this.#commits.size}`).digest("hex");
    this.#commits.set(id, commit);
    this.#branches.set(branch, id);
    return id;
  }

  /** The full commit id of a branch, of `HEAD`, or of a full commit id. */
  resolve(revision: string): string | undefined {
    return this.#branches.get(revision === "HEAD" ? "main" : revision) ??
      (this.#commits.has(revision) ? revision : undefined);
  }

  file(commitId: string, path: string): HubFile | undefined {
    return this.#commits.get(commitId)?.get(path);
  }

  async info(commitId: string, options: { blobs: boolean }): Promise<Record<string, unknown>> {
    const files = [...this.#commits.get(commitId)!.values()];
    return {
      _id: createHash("md5").update(this.name).digest("hex").slice(0, 24),
      id: this.name,
      modelId: this.name,
      author: this.name.split("/")[0],
      sha: commitId,
      lastModified: "2025-01-01T00:00:00.000Z",
      private: this.private,
      gated: this.gated,
      disabled: false,
      downloads: 0,
      likes: 0,
      tags: ["gguf"],
      siblings: await Promise.all(files.map((file) => file.sibling(options))),
    };
  }

  /** Entries below `folder` ("" for all), sorted by path; without `recursive` only its direct children. */
  async tree(
    commitId: string,
    options: { folder: string; recursive: boolean },
  ): Promise<Record<string, unknown>[]> {
    const prefix = options.folder === "" ? "" : `${options.folder}/`;
    const entries = new Map<string, Record<string, unknown>>();
    for (const file of this.#commits.get(commitId)!.values()) {
      if (!file.path.startsWith(prefix)) continue;
      const parts = file.path.slice(prefix.length).split("/");
      for (let depth = 1; depth < parts.length && (options.recursive || depth === 1); depth++) {
        const path = prefix + parts.slice(0, depth).join("/");
        entries.set(path, { type: "directory", oid: await new HubBlob(path).gitOid(), size: 0, path });
      }
      if (options.recursive || parts.length === 1) entries.set(file.path, await file.entry());
    }
    return [...entries].sort(([a], [b]) => a < b ? -1 : 1).map(([, entry]) => entry);
  }
}

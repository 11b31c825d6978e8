/** What the hive gives its models' owner. */
import type { Logger } from "../../daemon/log.ts";
import type { Config } from "../../home/config_schema.ts";
import type { Environment } from "../../home/paths.ts";
import type { CatalogModel, DownloadEvent } from "../../protocol/hive_schemas.ts";
import type { DownloadJob } from "./download_job.ts";
import type { Fetch } from "./hub_http.ts";
import type { ModelLimits } from "./limits.ts";
import type { Timing } from "./timing.ts";

/** What `Models` (models.ts) is made of. The last four are for tests. */
export interface ModelsOptions {
  /** `~/.rbee`; must exist. */
  home: string;
  /** Hub, models folder and bandwidth. */
  config: Config;
  /** The Hugging Face variables. */
  env: Environment;
  /** Folder with the models that ship with rbee. */
  builtinDir: string;
  /** Told about downloads and repairs. */
  log: Logger;
  /** Told all that downloads tell. */
  onDownload?: (job: Pick<DownloadJob, "id" | "reference">, event: DownloadEvent) => void;
  /** Default: the global one. */
  fetch?: Fetch;
  /** Overrides of `MODEL_LIMITS`. */
  limits?: Partial<ModelLimits>;
  /** Default: the real clock. */
  timing?: Timing;
  /** Free bytes on the disk of a folder. Default: what the system says. */
  freeBytes?: (folder: string) => Promise<number>;
}

/** A row of the catalog, and where its first file really is. */
export interface FoundModel extends CatalogModel {
  /** Links followed. */
  files: string;
  /** Why the files can't be looked at; absent: they can. */
  unreachable?: string;
}

/** Whether somebody has a model's files open or is about to. */
export type InUse = (model: FoundModel) => boolean;

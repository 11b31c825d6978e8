/** `models …`: what a machine has on its disk. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { BY_QUEEN, JSON_DOCUMENT, MODEL_HELP, NODE, QUIET } from "./shared.ts";

const MODELS_FLAGS = {
  node: NODE,
  queen: BY_QUEEN,
  json: JSON_DOCUMENT,
  quiet: QUIET,
} as const;

const MODELS_LIST_FLAGS = {
  verbose: { type: "boolean", help: "show where the files are, too" },
  ...MODELS_FLAGS,
} as const;
/** Values of `models list`'s flags. */
export type ModelsListFlags = FlagsOf<typeof MODELS_LIST_FLAGS>;

const ONE_MODEL_FLAGS = {
  model: { type: "text", value: "REF", required: true, help: MODEL_HELP },
  ...MODELS_FLAGS,
} as const;
/** Values of the flags of `models pull` and `models rm`. */
export type OneModelFlags = FlagsOf<typeof ONE_MODEL_FLAGS>;

const MODELS_VERIFY_FLAGS = {
  model: { type: "text", value: "REF", otherwise: "all models there are", help: MODEL_HELP },
  ...MODELS_FLAGS,
} as const;
/** Values of `models verify`'s flags. */
export type ModelsVerifyFlags = FlagsOf<typeof MODELS_VERIFY_FLAGS>;

const MODELS_PRUNE_FLAGS = {
  "keep-gb": {
    type: "number",
    value: "N",
    required: true,
    min: 0,
    max: 1_000_000,
    help: "how much downloaded models may take together, in GB",
  },
  "dry-run": { type: "boolean", help: "only say what would be removed" },
  ...MODELS_FLAGS,
} as const;
/** Values of `models prune`'s flags. */
export type ModelsPruneFlags = FlagsOf<typeof MODELS_PRUNE_FLAGS>;

/** See the file's head. */
export const MODELS_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["models", "list"],
    summary: "show the models of a machine, their size and last use",
    details:
      "With --queen and no --node: which model lies on which of that queen's machines, and is loaded there.",
    flags: MODELS_LIST_FLAGS,
    examples: ["models list", "models list --node mac --json", "models list --queen http://queen.lan:8080"],
    load: () => import("../commands/models_list.ts").then((module) => module.MODELS_LIST),
  }),
  defineCommand({
    path: ["models", "pull"],
    soughtAs: ["download", "get"],
    summary: "download a model, so that it is there when it is wanted",
    details:
      "Prints the path of its file. A download that was broken off goes on where it was. With --queen and no --node it " +
      "goes to the machine that would load it.",
    flags: ONE_MODEL_FLAGS,
    bare: "model",
    examples: ["models pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0"],
    load: () => import("../commands/models_pull.ts").then((module) => module.MODELS_PULL),
  }),
  defineCommand({
    path: ["models", "rm"],
    soughtAs: ["remove", "delete"],
    summary: "remove a model that no worker has loaded",
    details:
      "Files that were not downloaded stay where they are: the machine only forgets them. With --queen, --node is needed " +
      "only where several machines have it.",
    flags: ONE_MODEL_FLAGS,
    bare: "model",
    examples: ["models rm hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0"],
    load: () => import("../commands/models_rm.ts").then((module) => module.MODELS_RM),
  }),
  defineCommand({
    path: ["models", "verify"],
    summary: "read models again and compare their checksums",
    details:
      "Of a file that was not downloaded the first time records the checksum that later ones compare with.",
    flags: MODELS_VERIFY_FLAGS,
    bare: "model",
    examples: ["models verify", "models verify builtin:stories --json"],
    load: () => import("../commands/models_verify.ts").then((module) => module.MODELS_VERIFY),
  }),
  defineCommand({
    path: ["models", "prune"],
    summary: "remove downloaded models that were not used for longest",
    details:
      "As many as it takes for the rest to fit, and what downloads left unfinished. Nothing that a worker has " +
      "loaded, and no file that was not downloaded.",
    flags: MODELS_PRUNE_FLAGS,
    examples: ["models prune --keep-gb 20 --dry-run", "models prune --keep-gb 20"],
    load: () => import("../commands/models_prune.ts").then((module) => module.MODELS_PRUNE),
  }),
];

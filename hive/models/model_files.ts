/** Which files of a repository are the model that a reference means (SPEC §2): pure functions over a file list. */
import { RbeeError } from "../../protocol/errors.ts";
import { type ModelRef, QUANT_PREFERENCE } from "../../protocol/model_ref.ts";
import { MAX_LISTED_NAMES } from "./limits.ts";
import { splitNameOf } from "./split_name.ts";

/** A reference to a repository. */
export type HubRef = Extract<ModelRef, { provider: "hf" }>;

/** The parts of one model, in order. */
export interface ModelGroup<File> {
  /** Path without part number and `.gguf`. */
  stem: string;
  /** All parts there are, in order. */
  files: File[];
  /** How many there must be. */
  parts: number;
}

/** Companions that are no text models themselves: only taken when named. */
const COMPANION = /(^|[-._])(mmproj|imatrix)([-._]|$)/i;

const PROJECTOR = /(^|[-._])mmproj([-._].*)?\.gguf$/i;

/** Paths of the multimodal projectors in a list of files. */
export function projectorsOf(files: readonly { path: string }[]): string[] {
  return files.map(({ path }) => path).filter((path) => PROJECTOR.test(baseName(path))).slice(
    0,
    MAX_LISTED_NAMES,
  );
}

/** All models in a list of files; a file that is not `.gguf` is none. */
export function groupModels<File extends { path: string }>(files: readonly File[]): ModelGroup<File>[] {
  const groups = new Map<string, { stem: string; parts: number; byPart: Map<number, File> }>();
  for (const file of files) {
    if (!/\.gguf$/i.test(file.path)) continue;
    const { stem, part, parts } = splitNameOf(file.path);
    const key = `${stem}/${parts}`;
    const group = groups.get(key) ?? { stem, parts, byPart: new Map<number, File>() };
    groups.set(key, group);
    group.byPart.set(part, file);
  }
  return [...groups.values()].map(({ stem, parts, byPart }) => ({
    ...{ stem, parts },
    files: [...byPart].sort(([a], [b]) => a - b).map(([, file]) => file),
  })).sort((a, b) => a.stem.length - b.stem.length || (a.stem < b.stem ? -1 : 1));
}

/**
 * The model that `ref` means. A selector is first taken as a file name (with or without folder, part number and
 * `.gguf`), then as a quantisation. Without a selector: the first quantisation of {@linkcode QUANT_PREFERENCE} that
 * is there, else the only model.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND` listing what is there; `INVALID_REQUEST` when several fit; `INVALID_MODEL`
 * when parts are missing.
 */
export function chooseModel<File extends { path: string }>(
  files: readonly File[],
  ref: HubRef,
): ModelGroup<File> {
  const groups = groupModels(files);
  const chosen = ref.selector === undefined ? byPreference(groups, ref) : bySelector(groups, ref);
  if (chosen.files.length === chosen.parts) return chosen;
  throw new RbeeError(
    "INVALID_MODEL",
    `${ref.text} is incomplete at the hub: ${chosen.stem} has ${chosen.files.length} of ${chosen.parts} parts.`,
  );
}

function byPreference<File>(groups: readonly ModelGroup<File>[], ref: HubRef): ModelGroup<File> {
  const models = groups.filter((group) => !COMPANION.test(baseName(group.stem)));
  for (const quantisation of QUANT_PREFERENCE) {
    const found = onlyOne(withQuantisation(models, quantisation), ref);
    if (found !== undefined) return found;
  }
  if (models.length === 1) return models[0];
  throw notThere(groups, ref, "holds none of the usual quantisations; name one of its files");
}

function bySelector<File extends { path: string }>(
  groups: readonly ModelGroup<File>[],
  ref: HubRef,
): ModelGroup<File> {
  const selector = ref.selector!;
  const named = (isNamed: (path: string) => boolean) =>
    groups.filter((group) => [group.stem, ...group.files.map((file) => file.path)].some(isNamed));
  const byPath = named((path) => plain(path) === plain(selector));
  const byName = named((path) => plain(baseName(path)) === plain(selector));
  const models = groups.filter((group) => !COMPANION.test(baseName(group.stem)));
  const found = byPath[0] ?? onlyOne(byName, ref) ?? onlyOne(withQuantisation(models, selector), ref);
  if (found !== undefined) return found;
  throw notThere(groups, ref, `has no quantisation or file ${JSON.stringify(selector)}`);
}

function plain(name: string): string {
  return name.replace(/\.gguf$/i, "");
}

/** Models whose name ends in the quantisation; those with more before it (`UD-Q4_K_M`) only if there is no other. */
function withQuantisation<File>(
  groups: readonly ModelGroup<File>[],
  quantisation: string,
): ModelGroup<File>[] {
  const wanted = quantisation.toLowerCase();
  const ending = groups.filter(({ stem }) => {
    const name = baseName(stem).toLowerCase();
    return name === wanted || name.endsWith(`-${wanted}`) || name.endsWith(`.${wanted}`);
  });
  const plain = ending.filter(({ stem }) => quantisationOf(stem)?.toLowerCase() === wanted);
  return plain.length > 0 ? plain : ending;
}

const QUANTISATION = /(?:^|[-.])((?:UD-)?(?:I?Q\d[A-Z0-9_]*|TQ\d_\d|MXFP4\w*|NVFP4|BF16|F16|F32))$/i;

/** `Q4_K_M` of `model-Q4_K_M`. */
export function quantisationOf(stem: string): string | undefined {
  return QUANTISATION.exec(baseName(stem))?.[1];
}

/** One quantisation of a model. */
export interface Quantisation {
  /** How to ask for it. */
  modelRef: string;
  /** All its files. */
  bytes: number;
}

/** Every whole model of a repository that can be asked for by its quantisation. */
export function quantisationsOf(
  files: readonly { path: string; size: number }[],
  ref: HubRef,
): Quantisation[] {
  const revision = ref.revision === undefined ? "" : `@${ref.revision}`;
  return groupModels(files)
    .filter((group) => !COMPANION.test(baseName(group.stem)) && group.files.length === group.parts)
    .flatMap(({ stem, files: parts }) => {
      const quantisation = quantisationOf(stem);
      if (quantisation === undefined) return [];
      const bytes = parts.reduce((sum, { size }) => sum + size, 0);
      return [{ modelRef: `hf:${ref.repo}:${quantisation}${revision}`, bytes }];
    });
}

function onlyOne<File>(groups: readonly ModelGroup<File>[], ref: HubRef): ModelGroup<File> | undefined {
  if (groups.length < 2) return groups[0];
  const names = groups.map((group) => group.stem).slice(0, MAX_LISTED_NAMES);
  throw new RbeeError(
    "INVALID_REQUEST",
    `${ref.text} fits several models: ${names.join(", ")}. Name one, as in hf:${ref.repo}:${names[0]}.`,
    { details: { available: names } },
  );
}

function notThere<File>(groups: readonly ModelGroup<File>[], ref: HubRef, why: string): RbeeError {
  const names = groups.map(({ stem }) => quantisationOf(stem) ?? stem);
  const available = [...new Set(names)].slice(0, MAX_LISTED_NAMES);
  const there = available.length === 0 ? "It holds no GGUF file." : `There are: ${available.join(", ")}.`;
  return new RbeeError("MODEL_NOT_FOUND", `${ref.repo} ${why}. ${there}`, { details: { available } });
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** What progress looks like: pure functions from figures to one line of text (SPEC §8). */

/** Cells between the brackets of a bar. */
const BAR_CELLS = 24;
const BYTES_PER_MB = 1_000_000;
const BYTES_PER_GB = 1_000_000_000;

/** Figures of a running download. */
export interface DownloadFigures {
  /** So far. */
  bytes_downloaded: number;
  /** In all; 0 while unknown. */
  bytes_total: number;
  /** MB/s. */
  speed_mbps: number;
  /** Absent while unknown. */
  eta_seconds?: number;
}

/** Figures of a model on its way into memory. */
export interface LoadingFigures {
  /** So far. */
  layers_loaded: number;
  /** In all. */
  layers_total: number;
}

/** What a stage is called, with or without a bar behind it. */
export const STAGES = {
  downloading: "Downloading model...",
  verifying: "Verifying model...",
  loading: "Loading model to VRAM...",
  ready: "Model ready!",
} as const;

/** `Downloading model... [████████████████████----] 80% (4.0 MB / 5.0 MB) @ 45.2 MB/s ETA 0:03`. */
export function downloadLine(figures: DownloadFigures): string {
  const { bytes_downloaded: done, bytes_total: total, speed_mbps: speed, eta_seconds: eta } = figures;
  const amounts = `(${bytes(done)} / ${bytes(total)}) @ ${speed.toFixed(1)} MB/s`;
  return `${STAGES.downloading} ${bar(done, total)} ${amounts}${
    eta === undefined ? "" : ` ETA ${clock(eta)}`
  }`;
}

/** `Loading model to VRAM... [██████████████████------] 75% (24/32 layers)`. */
export function loadingLine(figures: LoadingFigures): string {
  const { layers_loaded: done, layers_total: total } = figures;
  return `${STAGES.loading} ${bar(done, total)} (${done}/${total} layers)`;
}

/** `Verifying hf:a/b... [████████████------------] 50% (2.0 MB / 4.0 MB)`. */
export function verifyLine(reference: string, figures: { bytes_done: number; bytes_total: number }): string {
  const { bytes_done: done, bytes_total: total } = figures;
  return `${verifyStage(reference)} ${bar(done, total)} (${bytes(done)} / ${bytes(total)})`;
}

/** What the verification of one model is called. */
export function verifyStage(reference: string): string {
  return `Verifying ${reference}...`;
}

/** A size as people write it: MB and GB of 1000, one decimal. */
export function bytes(count: number): string {
  return count < BYTES_PER_GB
    ? `${(count / BYTES_PER_MB).toFixed(1)} MB`
    : `${(count / BYTES_PER_GB).toFixed(1)} GB`;
}

/** A begun cell is a full one, so that something shows as soon as something is there; 100 % only at the end. */
function bar(done: number, total: number): string {
  const share = total > 0 ? Math.min(1, Math.max(0, done / total)) : 0;
  const full = Math.ceil(share * BAR_CELLS);
  return `[${"█".repeat(full)}${"-".repeat(BAR_CELLS - full)}] ${Math.floor(share * 100)}%`;
}

/** `m:ss`, or `h:mm:ss` from an hour on. */
function clock(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

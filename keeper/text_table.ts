/** Lists for people. */
import { printable } from "../protocol/printable.ts";

/** Rows under a heading, columns padded; the first row's keys are the heading. */
export function textTable(rows: readonly Readonly<Record<string, string>>[]): string {
  const names = Object.keys(rows[0] ?? {});
  const lines = [names, ...rows.map((row) => names.map((name) => printable(row[name] ?? "")))];
  const widths = names.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines
    .map((line) => `${line.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd()}\n`)
    .join("");
}

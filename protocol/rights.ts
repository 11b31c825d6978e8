/** What a key may do (SPEC §14). A right is a field of a key; no name stands for one. */
import * as z from "zod";

/**
 * `owner`: everything. `operator`: sees and runs machines and models. `hive`: one machine's hive reports with it.
 * `client`: gets answers.
 */
export const RIGHTS = ["owner", "operator", "hive", "client"] as const;
/** One of them. */
export type Right = (typeof RIGHTS)[number];
/** See {@linkcode RIGHTS}. */
export const Right = z.enum(RIGHTS);

/** Who calls. */
export interface Caller {
  /** Tells its key from all others: in queues, tasks, budgets and logs. */
  readonly id: string;
  /** See {@linkcode RIGHTS}. */
  readonly rights: readonly Right[];
  /** With the right `hive`: the one machine that it may report. */
  readonly node?: string;
}

/** Who calls with the daemon's own key. */
export const OWNER: Caller = { id: "owner", rights: ["owner"] };

/** Whether a caller has a right; the owner has them all. */
export function may({ rights }: Pick<Caller, "rights">, right: Right): boolean {
  return rights.includes("owner") || rights.includes(right);
}

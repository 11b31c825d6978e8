/** Reports of hives that were refused: a line in the log for each reason, not for each report. */
import type { Logger } from "../../daemon/log.ts";
import type { RbeeError } from "../../protocol/errors.ts";
import { REFUSED_REPORT_QUIET_MS } from "../limits.ts";
import { RecentMap } from "../recent_map.ts";

/** Reasons that are remembered; a stranger can bring any number. */
const REASONS_MAX = 100;

/** See above. */
export class RefusedReports {
  readonly #options: { log: Logger; now: () => number };
  readonly #toldMs = new RecentMap<string, number>(REASONS_MAX);

  /** Nothing was refused yet. */
  constructor(options: { log: Logger; now: () => number }) {
    this.#options = options;
  }

  /** One was, for this reason. */
  tell({ code, message }: RbeeError): void {
    const { log, now } = this.#options;
    const reason = `${code} ${message}`;
    const toldMs = this.#toldMs.get(reason);
    if (toldMs !== undefined && now() - toldMs < REFUSED_REPORT_QUIET_MS) return;
    this.#toldMs.set(reason, now());
    log.warn("report of a hive is refused", { code, reason: message });
  }
}

/** The life of a worker as its hive sees it. */
import type { WorkerState } from "../../protocol/hive_schemas.ts";

/** What can happen to a worker. */
export type WorkerHappening =
  /** Its ready callback came: the HTTP port is bound. */
  | "called_back"
  /** The model is in memory and nothing runs. */
  | "became_idle"
  /** At least one request runs. */
  | "became_busy"
  /** It was asked to leave, or says that it is leaving. */
  | "stop_asked"
  /** It can't do what it was started for; the error says why. */
  | "gave_up"
  /** Its process is over. */
  | "exited"
  /** A failed worker has been in the list for long enough. */
  | "forgotten";

/**
 * The state after something happened, or undefined where that can't happen and is to be ignored: news may be late,
 * such as a probe that was on its way while the worker was asked to leave.
 *
 * | from     | called_back | became_idle | became_busy | stop_asked | gave_up | exited | forgotten |
 * | -------- | ----------- | ----------- | ----------- | ---------- | ------- | ------ | --------- |
 * | starting | loading     |             |             | draining   |         | gone   |           |
 * | loading  |             | idle        | busy        | draining   | failed  | failed |           |
 * | idle     |             | idle        | busy        | draining   | failed  | gone   |           |
 * | busy     |             | idle        | busy        | draining   | failed  | gone   |           |
 * | draining |             |             |             |            |         | gone   |           |
 * | failed   |             |             |             |            |         |        | gone      |
 * | gone     |             |             |             |            |         |        |           |
 *
 * A worker that exits while it loads is `failed`, not gone: the spawn was answered already, and whoever waits for the
 * load finds the reason in the list. One that never called back is stopped instead: the spawn's answer has the reason.
 */
export function nextState(state: WorkerState, happening: WorkerHappening): WorkerState | undefined {
  return TRANSITIONS[state][happening];
}

const LOADED = { became_idle: "idle", became_busy: "busy" } as const;
const STOPPABLE = { stop_asked: "draining", exited: "gone" } as const;
const STARTED = { ...STOPPABLE, gave_up: "failed" } as const;

const TRANSITIONS: Record<WorkerState, Partial<Record<WorkerHappening, WorkerState>>> = {
  starting: { ...STOPPABLE, called_back: "loading" },
  loading: { ...STARTED, ...LOADED, exited: "failed" },
  idle: { ...STARTED, ...LOADED },
  busy: { ...STARTED, ...LOADED },
  draining: { exited: "gone" },
  failed: { forgotten: "gone" },
  gone: {},
};

/** Whether a worker in this state serves requests or soon will: what a second spawn may be given. */
export function isUsable(state: WorkerState): boolean {
  return state === "starting" || state === "loading" || state === "idle" || state === "busy";
}

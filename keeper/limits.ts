/** The keeper's own numbers; those that both ends of a wire share stand in `protocol/limits.ts`. */

/** EC1: pause before each attempt to reach a hive; as many attempts as there are pauses. */
export const CONNECT_DELAYS_MS: readonly number[] = [0, 200, 400];
/** EC1: longest wait for the answer to one attempt. */
export const CONNECT_ATTEMPT_TIMEOUT_MS = 10_000;
/** EC6: first pause when every slot is busy; doubles each time. */
export const BUSY_FIRST_DELAY_MS = 1_000;
/** EC6: longest such pause, for who asks for many retries. */
export const BUSY_MAX_DELAY_MS = 30_000;
/** EC6: how often a busy worker is asked again, unless `--retry` says otherwise. */
export const DEFAULT_BUSY_RETRIES = 3;
/** Most that `--retry` takes. */
export const MAX_BUSY_RETRIES = 100;

/** Age up to which a registry row counts as fresh. */
export const REGISTRY_FRESH_SECONDS = 60;
/** Longest wait for a worker that was healthy within {@linkcode REGISTRY_FRESH_SECONDS}. */
export const FRESH_PROBE_TIMEOUT_MS = 2_000;
/** Longest wait for a worker of an older row: it is likely gone, and the hive will know. */
export const OLD_PROBE_TIMEOUT_MS = 500;
/** Age at which a registry row, and the key in it, is forgotten. */
export const REGISTRY_KEEP_SECONDS = 7 * 24 * 3600;
/** Most rows that are probed for one command. */
export const MAX_PROBED_ROWS = 4;

/** Longest wait for a hive that was just started. */
export const HIVE_START_TIMEOUT_MS = 20_000;
/** How long another keeper's hive is waited for once ours has made way. */
export const HIVE_RIVAL_TIMEOUT_MS = 5_000;
/** How often a starting hive is looked at. */
export const HIVE_START_POLL_MS = 50;
/** Longest wait for a hive to stop: it gives its workers 30 s. */
export const HIVE_STOP_TIMEOUT_MS = 45_000;
/** Longest wait for systemd to start a hive anew; it pauses for 2 s before. */
export const SERVICE_RESTART_TIMEOUT_MS = 15_000;
/** How often a log that is followed and broke off is joined again. */
export const LOG_FOLLOW_REJOINS = 5;
/** How much of a log is shown when something did not start. */
export const LOG_TAIL_LINES = 20;
/** How much of a log is read for that. */
export const LOG_TAIL_BYTES = 16 * 1024;

/** Longest wait for the answer to a spawn: the hive itself waits up to 30 s for the worker's callback. */
export const SPAWN_TIMEOUT_MS = 60_000;
/** How often a loading worker is asked whether it is ready, at most; its progress stream usually knows first. */
export const READY_POLL_INTERVAL_MS = 2_000;
/** How long a hive may take to learn that a worker has ended, which its connections tell at once … */
export const END_TOLD_MS = 2_000;
/** … and the pause between two questions for that. */
export const END_POLL_INTERVAL_MS = 100;
/** How much longer than its hive the keeper waits for a model to load, so that the hive's own error is heard. */
export const LOAD_GRACE_MS = 5_000;
/** Longest wait for the answer to a download request: the hive asks the hub first, and may have to ask again. */
export const DOWNLOAD_ANSWER_TIMEOUT_MS = 60_000;
/** How often a download's progress stream that broke off is joined again. */
export const DOWNLOAD_REJOINS = 3;

/** Silence on the token stream after which the connection is checked. */
export const SILENCE_BEFORE_CHECK_MS = 2_000;
/** Longest such check. With the silence before it, a lost connection is noticed within 5 s. */
export const CONNECTION_CHECK_TIMEOUT_MS = 2_500;
/** How often silence and token gaps are looked at. */
export const STREAM_WATCH_INTERVAL_MS = 250;

/** Most of a prompt, a system text or a JSON schema that is read; leaves room for JSON's escapes in a request. */
export const MAX_INPUT_BYTES = 8 * 1024 * 1024;
/** Longest run of names shown by an error. */
export const MAX_NAMES_SHOWN = 20;
/** How much of a request's id a list shows: enough to tell it from others. */
export const REQUEST_ID_CHARS_SHOWN = 12;

/** Lines of earlier chats that the arrow keys bring back. */
export const MAX_HISTORY_LINES = 1_000;
/** Longest line that is remembered for them. */
export const MAX_HISTORY_CHARS = 10_000;

/** Longest that any one of the doctor's looks takes. */
export const DOCTOR_LOOK_TIMEOUT_MS = 5_000;
/** Longest wait for this machine's devices: the engine is loaded to ask it. */
export const DOCTOR_DETECT_TIMEOUT_MS = 25_000;
/** Difference between two machines' clocks that deserves a word; their answers tell whole seconds only. */
export const CLOCK_SKEW_SECONDS = 5;
/** Free disk below which the doctor warns: less than a small model. */
export const DISK_LOW_MB = 5_000;
/** Free memory below which the doctor warns. */
export const MEMORY_LOW_MB = 1_000;
/** Longest wait for a hive that was started on another machine. */
export const REMOTE_START_TIMEOUT_MS = 30_000;

/** Pauses before each try to join an answer again whose queen was lost. */
export const QUEEN_REJOIN_DELAYS_MS: readonly number[] = [1_000, 2_000, 4_000, 8_000, 8_000];

/** Longest wait for a queen who installs rbee on a machine. */
export const QUEEN_INSTALL_TIMEOUT_MS = 630_000;
/** Longest wait for a queen who starts or stops a machine's hive. */
export const QUEEN_START_TIMEOUT_MS = 120_000;
/** How much longer than its answers' time a queen may take to drain a machine: its workers have 30 s to stop. */
export const DRAIN_GRACE_MS = 90_000;
/** Lines of what was said that are shown when no archive could be made of a checkout. */
export const ARCHIVE_LOG_LINES = 20;

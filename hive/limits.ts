/** The hive's own numbers (SPEC §6 and §10). What a user may change stands in the configuration instead. */

/** Health checks in a row that may fail before a worker is removed and killed. */
export const HEALTH_FAILURES_MAX = 3;
/** Pause between two pulses of a loaded worker: short health checks that show an engine or a thread that is stuck. */
export const PULSE_INTERVAL_MS = 2_000;
/** Time for the answer to one. */
export const PULSE_TIMEOUT_MS = 2_000;
/** Pause before the next one when the last was bad. */
export const PULSE_AGAIN_MS = 500;
/** Pulses in a row without an answer that a worker may not survive. */
export const PULSES_SILENT_MAX = 3;
/** Pulses in a row that show the same step past its limit, and that a worker may not survive. */
export const PULSES_STUCK_MAX = 2;
/** A wait that took this much longer than asked for shows that the hive itself stood still. */
export const HIVE_GAP_MS = 1_000;
/** Time between a worker being reported as failed and its SIGKILL, so that queens hear of it first. */
export const DRAIN_MOMENT_MS = 500;

/** Time for a worker to acknowledge a shutdown. */
export const SHUTDOWN_ACK_TIMEOUT_MS = 5_000;
/** Time between being asked to leave and SIGKILL for a worker that was idle. */
export const STOP_TIMEOUT_MS = 10_000;
/** The same for a worker that was generating: it may finish its answers. */
export const STOP_BUSY_TIMEOUT_MS = 30_000;
/** Time for all workers together when the hive itself leaves; SIGKILL and its effect fit into the 30 s of SPEC. */
export const CLOSE_PATIENCE_MS = 28_000;
/** Time for that step of the hive's shutdown. */
export const CLOSE_TIMEOUT_MS = 30_000;
/** Time that a worker which reported a failed load has for leaving by itself. */
export const FAILED_EXIT_TIMEOUT_MS = 10_000;
/** How long a failed worker stays in the list, so that whoever waits for it learns why. */
export const FAILED_KEPT_MS = 300_000;
/** Most failed workers in the list; the oldest leave first. */
export const FAILED_KEPT_MAX = 20;
/** Time for what a dying worker said last to be read, before its exit is judged. */
export const LAST_WORDS_TIMEOUT_MS = 500;

/** Time for `GET /v1/ready` when workers are listed: a stalled one must not hold up the others. */
export const PROBE_TIMEOUT_MS = 1_000;
/** Time for a running worker to prove itself to a restarted hive. */
export const ADOPT_TIMEOUT_MS = 5_000;
/** Time for a start that is under way when the hive is told to leave: all that it waits for is adoption. */
export const START_TIMEOUT_MS = 8_000;
/** Pause between two looks at a process that is not this hive's child. */
export const ADOPTED_POLL_INTERVAL_MS = 250;
/** Every how many of these the look is a thorough (and dearer) one that knows a zombie. */
export const ADOPTED_LOOK_EVERY_POLLS = 8;
/** Pause before a broken load watch is opened again. */
export const LOAD_WATCH_RETRY_MS = 250;
/** Pause before asking again a worker that did not answer whether it was idle. */
export const IDLE_RETRY_MS = 5_000;
/** Shortest pause between two questions whether a worker was idle long enough. */
export const IDLE_RECHECK_MIN_MS = 50;

/** Time without a hive after which a worker leaves by itself: long enough for an upgrade. It is at least this … */
export const ORPHAN_TIMEOUT_MIN_SECONDS = 600;
/** … and so many pauses between health checks. */
export const ORPHAN_TIMEOUT_HEALTH_CHECKS = 4;

/** How long the hive stands still for another program that has one of its databases. */
export const DATABASE_BUSY_TIMEOUT_MS = 100;
/** Pause before a registry that could not be written is tried again. */
export const REGISTRY_RETRY_MS = 1_000;

/** Pause between a worker's load and its first self-test. */
export const SELF_TEST_DELAY_MS = 1_000;
/** Pause between self-tests. Rare: one may cost a slot the KV cache of a conversation that nobody goes on with. */
export const SELF_TEST_INTERVAL_MS = 3_600_000;
/** For how long nothing must have run before one. */
export const SELF_TEST_IDLE_MIN_MS = 60_000;
/** Pause before a failed one is tried again. */
export const SELF_TEST_AGAIN_MS = 1_000;
/** Failed self-tests in a row that a worker may not survive. */
export const SELF_TEST_FAILURES_MAX = 2;

/** Lines of a worker's log in errors and in the hive's log when it dies. */
export const LOG_TAIL_LINES = 50;
/** Most bytes read for them. */
export const LOG_TAIL_MAX_BYTES = 64 * 1024;
/** Most characters of one of these lines. */
export const LOG_TAIL_LINE_MAX_CHARS = 2_000;

/** Lines of one program that are kept in memory … */
export const LOG_RING_MAX_LINES = 10_000;
/** … as long as they are no longer than this together. */
export const LOG_RING_MAX_CHARS = 2_000_000;
/** Workers that are gone whose lines are still kept in memory. */
export const LOG_RINGS_GONE_MAX = 4;
/** Longest line; the rest of it is left out. */
export const LOG_LINE_MAX_CHARS = 16_384;
/** Most lines that are told at once. */
export const LOG_LINES_TOLD_MAX = 10_000;
/** Bytes of a log that are read at once. */
export const LOG_READ_CHUNK_BYTES = 64 * 1024;
/** Bytes of a log that are read at most when much of it is new; of more only the end counts. */
export const LOG_READ_MAX_BYTES = 4 * 1024 * 1024;
/** Size at which a log file is cut; as much of what it held before is kept beside it. */
export const LOG_FILE_MAX_BYTES = 10_000_000;
/** Workers that are gone whose log files are kept … */
export const LOGS_KEPT_MAX = 50;
/** … as long as they are no larger than this together. */
export const LOGS_KEPT_MAX_BYTES = 200_000_000;
/** Pause between two looks for large and old logs: what a worker can write meanwhile is beyond all bounds. */
export const LOG_TIDY_INTERVAL_MS = 2_000;
/** Pause between two looks for new lines while somebody follows. */
export const LOG_FOLLOW_INTERVAL_MS = 250;
/** Of these, those after a worker's end: something may still be said of it. */
export const LOG_AFTERWORDS_LOOKS = 4;

/** Time for `worker --detect`. */
export const DETECT_TIMEOUT_MS = 20_000;
/** How old the free memory of GPU devices may be. */
export const DETECT_MAX_AGE_MS = 5_000;
/** Free disk below which no worker is started: its log and the registry need a place. */
export const SPAWN_DISK_MIN_MB = 16;
/** Tokens of one slot when the request names none and the model was trained for more. */
export const DEFAULT_CTX_SIZE_MAX = 4_096;
/** Smallest context that is suggested when memory is short. */
export const SUGGESTED_CTX_SIZE_MIN = 512;
/** Most other quantisations that are suggested. */
export const SUGGESTED_MODELS_MAX = 3;
/** Time for the hub to say which quantisations there are, once memory is short. */
export const ALTERNATIVES_TIMEOUT_MS = 3_000;
/** Times that a spawn asks workers to leave before it gives up. */
export const EVICTION_ROUNDS_MAX = 4;
/** Loads whose memory is remembered. */
export const LOAD_HISTORY_MAX = 200;
/** Of these, those that capabilities show. */
export const LOAD_HISTORY_SHOWN = 20;

/** Time for a worker to tell its metrics … */
export const WORKER_METRICS_TIMEOUT_MS = 2_000;
/** … and their largest text. */
export const WORKER_METRICS_MAX_CHARS = 64 * 1024;

/** Time for `rbee-hive status` to get an answer. */
export const STATUS_TIMEOUT_MS = 5_000;
/** Time for running downloads to be put aside when the hive leaves. */
export const DOWNLOADS_CLOSE_TIMEOUT_MS = 5_000;

/** Time for the queen to take a report. */
export const HEARTBEAT_TIMEOUT_MS = 5_000;
/** Time for the queen to hear that this hive leaves. */
export const LEAVING_TIMEOUT_MS = 2_000;
/** How long the hive collects changes before it reports them to the queen. */
export const REPORT_GATHER_MS = 20;

/** Pause between two looks at the memory of the workers. */
export const WORKER_MEMORY_INTERVAL_MS = 1_000;
/** Looks in a row that may find a worker over its limit; one that is over by the margin once more gets one look. */
export const WORKER_MEMORY_LOOKS_MAX = 2;
/** Time for a look. */
export const WORKER_MEMORY_LOOK_TIMEOUT_MS = 5_000;
/** What a model may take beyond its plan while it loads: estimates of unusual shapes are off by a tenth. */
export const LOAD_MEMORY_FACTOR = 1.25;
/** RAM that the libraries of a GPU take beside the model, in MB. */
export const GPU_HOST_MEMORY_MB = 2_000;
/** Copies of one slot's keys and values that exist at once while an answer is exported or taken up. */
export const STATE_COPIES = 2;
/** `oom_score_adj` of a worker: whatever else runs, the kernel ends a worker first. */
export const WORKER_OOM_SCORE_ADJ = 1_000;

/** Pause between two looks at free memory. */
export const MEMORY_WATCH_INTERVAL_MS = 10_000;
/** Share of all memory by which free memory must have changed to be told again. */
export const MEMORY_TOLD_CHANGE = 0.02;
/** Pause before what could not be preloaded is tried again; it doubles each time … */
export const PRELOAD_RETRY_MS = 30_000;
/** … up to this. */
export const PRELOAD_RETRY_MAX_MS = 1_800_000;

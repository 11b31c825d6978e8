/** The queen's own numbers (SPEC §9 and §10). What a user may change stands in the configuration instead. */

/** Missed heartbeats after which nothing new goes to a hive … */
export const STALE_AFTER_HEARTBEATS = 3;
/** … and after which it counts as gone. */
export const DOWN_AFTER_HEARTBEATS = 10;
/** How long after its start the queen waits for hives to report before it says that there are none. */
export const SETTLING_MS = 10_000;
/** A tick that comes so late means that this process was stopped, or the machine slept. */
export const CLOCK_GAP_MS = 5_000;
/** How long a machine that is down is remembered, unless it was added by hand. */
export const NODE_FORGOTTEN_MS = 3_600_000;
/** Instances of a hive that are remembered once another took their place. */
export const REPLACED_INSTANCES_MAX = 16;
/** Time for the hive of a name that another one reports under to show that it is there. */
export const RIVAL_TIMEOUT_MS = 2_000;
/** Models whose size, refusal and pace are remembered. */
export const MODELS_KNOWN_MAX = 10_000;
/** Pause between two looks at all that time alone changes: who is stale, what has waited for too long. */
export const TICK_INTERVAL_MS = 500;

/** Batch work that has waited for so long is as urgent as any other. */
export const BATCH_PROMOTED_AFTER_MS = 60_000;
/** How long requests wait for machines that fell silent or left. */
export const RETURN_MS = 60_000;
/** Machines that try a model before it is given up, where each had a reason of its own. */
export const MACHINE_REFUSALS_MAX = 3;
/** How long the queen waits for a hive to say why a worker that no longer answers has ended. */
export const DEATH_TOLD_MS = 5_000;
/** Pause between two such questions. */
export const DEATH_POLL_MS = 100;
/** Loads on one machine at the same time. */
export const LOADS_PER_NODE_MAX = 2;
/** How long a machine is not asked again for a model that it refused. */
export const REFUSAL_MS = 30_000;
/** How long a refusal counts towards {@linkcode MACHINE_REFUSALS_MAX}. */
export const REFUSAL_COUNTS_MS = 1_800_000;
/** Pause between two looks at all machines for a model that none had room for. */
export const LOOK_INTERVAL_MS = 5_000;
/** Kinds of restricted requests for which a place is looked for when the first in the queue has none. */
export const RESTRICTIONS_TRIED_MAX = 8;
/** Prompt tokens that an unmeasured worker is thought to read in a second. */
export const DEFAULT_READS_PER_SECOND = 500;
/** How long an answer takes, as long as none was measured. */
export const DEFAULT_ANSWER_MS = 5_000;
/** How long a load takes, as long as none was measured. */
export const DEFAULT_LOAD_MS = 15_000;
/** What a new value counts in a moving mean. */
export const MEAN_WEIGHT = 0.2;
/** Characters of a token, where only the text is known. */
export const CHARS_PER_TOKEN = 4;
/** Of the tokens that are estimated so, the part that any text has. */
export const SURE_PART = 0.5;

/** Nothing from a worker that generates, not even a keep-alive, for so long: it is lost. */
export const WORKER_SILENCE_MS = 30_000;
/** The next token of an answer is overdue after so many times what its tokens take, and not before … */
export const OVERDUE_GAPS = 10;
/** … this. Then its worker is asked, and lost when it does not answer. */
export const OVERDUE_MIN_MS = 2_000;
/** Time for a worker to answer that. */
export const PROBE_TIMEOUT_MS = 1_000;
/** How often a worker in prefill is asked whether it is still working … */
export const READING_PROBE_INTERVAL_MS = 5_000;
/** … and how long it may take to reply: no client sees a gap yet, and the machine may be busy. */
export const READING_PROBE_TIMEOUT_MS = 5_000;
/** How long a stream that waits says nothing, so that a refusal can have a status of its own. */
export const QUIET_WAIT_MS = 2_000;
/** Time for a worker to take a request. */
export const ACCEPT_TIMEOUT_MS = 30_000;
/** Workers that one request is sent to at most, those that turn it away included. */
export const ATTEMPTS_MAX = 20;
/** Workers that one request may cost in all, however much each of them told: then it is poisoned. */
export const LOSSES_MAX = 5;
/** Workers that a request may cost without a token in between: then it is poisoned. */
export const POISONED_STRIKES = 2;
/** How long nobody may join a request that has lost a worker, unless it tells a token before. */
export const TRIAL_MS = 15_000;
/** Poisoned requests of one key after which it is noted … */
export const NOTED_AFTER_POISONED = 3;
/** … if they came within this time, and for how long it stays so. */
export const NOTED_FOR_MS = 600_000;
/** A worker ends an answer at its deadline by itself; time for that before the queen does. */
export const DEADLINE_GRACE_MS = 2_000;
/** How long a worker that was lost is left alone … */
export const SUSPECT_MS = 10_000;
/** … unless its hive reports that it answers, and looked for that after it was lost. */
export const VOUCHED_AFTER_MS = 3_000;
/** Longest wait of a load that is followed for its next sign of life. */
export const LOAD_SILENCE_MS = 60_000;
/** Time for a hive to start a worker: 30 s until it calls back, and room may have to be made. */
export const SPAWN_TIMEOUT_MS = 120_000;

/** Time for a hive to begin an answer that is passed on: less than whoever asked waits for the queen. */
export const HIVE_ANSWER_TIMEOUT_MS = 8_000;
/** The same where it has to ask a hub, remove files, or end a worker's answers first. */
export const HIVE_WORK_TIMEOUT_MS = 120_000;

/** Beginnings of prompts whose tokens are remembered … */
export const PREFIXES_MAX = 20_000;
/** … and hashes of all of these together, of 8 bytes. */
export const PREFIX_BLOCKS_MAX = 2_000_000;
/** Characters after which a raw prompt has one more beginning, at least … */
export const PREFIX_STEP_CHARS = 256;
/** … and at least one part in so many of what comes before … */
export const PREFIX_STEP_PART = 16;
/** … up to this many: about 128k tokens. */
export const PREFIX_CHARS_MAX = 512 * 1024;
/** Beginnings of one prompt. */
export const PREFIXES_PER_PROMPT_MAX = 256;

/** How long tasks that have ended can be asked for. */
export const TASK_KEPT_MS = 3_600_000;
/** Pause between two looks for older ones. */
export const PRUNE_INTERVAL_MS = 60_000;
/** A task that was asked for with its events is canceled when nobody has listened for so long. */
export const ABANDONED_AFTER_MS = 10_000;
/** Events that are written ahead of whoever reads them. */
export const UNREAD_EVENTS_BYTES = 256 * 1024;
/** Sessions whose last worker is remembered. */
export const SESSIONS_MAX = 20_000;

/** Time for rbee to be installed on a machine over ssh: an archive of some 60 MB, and its self-test there. */
export const NODE_INSTALL_TIMEOUT_MS = 600_000;
/** Time for a hive to be started over ssh and to report. */
export const NODE_START_TIMEOUT_MS = 90_000;
/** Time for a hive to be stopped over ssh: 30 s for its workers, and the way there. */
export const NODE_STOP_TIMEOUT_MS = 45_000;
/** Time for a hive that answers on its machine to report. */
export const NODE_REPORT_TIMEOUT_MS = 30_000;
/** Pause between two looks at what is wanted of machines. */
export const NODE_RESTORE_INTERVAL_MS = 5_000;
const MINUTE_MS = 60_000;
/** How long the same refusal of a report is not logged again: hives report every few seconds. */
export const REFUSED_REPORT_QUIET_MS = 10 * MINUTE_MS;
/** Pauses before each try to bring a machine back; as many tries as there are pauses: some twelve hours. */
export const NODE_RESTORE_PAUSES_MS: readonly number[] = [
  ...[10_000, 30_000, MINUTE_MS, 2 * MINUTE_MS, 5 * MINUTE_MS, 10 * MINUTE_MS],
  ...Array.from({ length: 24 }, () => 30 * MINUTE_MS),
];
/** Pause between two looks whether it has reported. */
export const NODE_LOOK_INTERVAL_MS = 100;

/** Longest time between a change of a key's budgets that may be lost and its being stored. */
export const BUDGET_WRITE_INTERVAL_MS = 250;
/** After this any budget is whole again, and need not be kept. */
export const BUDGET_KEPT_MS = 2 * 86_400_000;
/** When to come back where running requests hold what is missing: most take far less than they may. */
export const RETRY_AFTER_RUNNING_S = 10;
/** Longest time between a request's end and its being counted in the store. */
export const USAGE_WRITE_INTERVAL_MS = 1_000;
/** Days that usage is kept. */
export const USAGE_KEPT_DAYS = 400;
/** Days of usage that are told when nobody says how many. */
export const USAGE_TOLD_DAYS = 30;
/** Part of a key's budget that one answer may have whose request does not say how much: one in so many. */
export const UNSTATED_BUDGET_PART = 8;
/** Tokens that such an answer asks for at least. */
export const UNSTATED_TOKENS_MIN = 64;
/** Models of one key that are told apart on one day; further ones are counted together. */
export const USAGE_MODELS_MAX = 200;
/** Keys that metrics tell apart; further ones are counted together. */
export const METRIC_KEYS_MAX = 100;
/** Models that metrics tell apart; further ones are counted together. */
export const METRIC_MODELS_MAX = 20;
/** Machines that metrics show one by one. */
export const METRIC_NODES_MAX = 1_000;
/** Keys that can be added beside those of the configuration. */
export const ADDED_KEYS_MAX = 10_000;

/** Time for all answers to come to their end when the queen leaves. */
export const DRAIN_TIMEOUT_MS = 25_000;
/** Time for that step of its shutdown. */
export const CLOSE_TIMEOUT_MS = 30_000;
/** Time for the store. */
export const STORE_TIMEOUT_MS = 5_000;
/** Largest sum of the bodies whose requests are under way: what is made of them must fit the queen's heap. */
export const BODIES_MAX_BYTES = 48 * 1024 * 1024;

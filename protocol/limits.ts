/** The numbers both ends of a wire must agree on. What only one part knows stands in that part's `limits.ts`. */

/** Largest body on routes that carry prompts. */
export const MAX_BODY_BYTES = 16 * 1024 * 1024;
/** Largest body on control routes. */
export const MAX_CONTROL_BODY_BYTES = 1024 * 1024;
/** The same in the hands of whoever relays it, who adds what was generated already. */
export const MAX_RELAY_BODY_BYTES = 2 * MAX_BODY_BYTES;
/** Largest exported answer: most of it is KV cache, of a long context in a large model. */
export const MAX_STATE_BYTES = 1024 * 1024 * 1024;
/** Largest `Authorization` header. */
export const MAX_AUTH_HEADER_BYTES = 8 * 1024;
/** Largest single server-sent event a client accepts. */
export const MAX_EVENT_BYTES = 16 * 1024 * 1024;
/** Largest answer to a call that a client reads. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** What the reader of an event stream may leave unread before it is cut off. */
export const MAX_UNREAD_BYTES = 16 * 1024 * 1024;
/** A comment line at least this often on every event stream. */
export const KEEP_ALIVE_INTERVAL_MS = 10_000;
/** Keep-alives in a row that the reader of an event stream may leave unread, with all before them: two minutes. */
export const STALLED_KEEP_ALIVES_MAX = 12;
/** Time to establish a connection. */
export const CONNECT_TIMEOUT_MS = 5_000;
/** Time for a control call to be answered. */
export const CONTROL_TIMEOUT_MS = 10_000;
/** Time for a health call to be answered. */
export const HEALTH_TIMEOUT_MS = 5_000;
/** Time for a cancel to be acknowledged. */
export const CANCEL_TIMEOUT_MS = 5_000;
/** A worker that has not loaded its model by then has failed. */
export const LOAD_TIMEOUT_MS = 300_000;
/** Time until the first token. */
export const FIRST_TOKEN_TIMEOUT_MS = 300_000;
/** Time for a worker to generate the one token that proves that it can. */
export const SELF_TEST_TIMEOUT_MS = 60_000;
/** Longest pause between two tokens. */
export const TOKEN_GAP_TIMEOUT_MS = 60_000;
/** Tokens when a request names no `max_tokens`. */
export const DEFAULT_MAX_TOKENS = 512;
/** Deepest nesting of a `json_schema`: what turns it into a grammar is recursive. */
export const MAX_JSON_SCHEMA_DEPTH = 64;
/** Most answers to one prompt. */
export const MAX_CHOICES = 128;
/** Deepest nesting of a JSON body. */
export const MAX_JSON_DEPTH = 200;
/** Most values of a JSON body: every one costs memory, and time to check it. */
export const MAX_JSON_VALUES = 131_072;
/** The same where a list may hold one number for each token. */
export const MAX_TOKEN_JSON_VALUES = 1_048_576;
/** Most members of one JSON object. */
export const MAX_JSON_MEMBERS = 8_192;
/** Most parts of one message. */
export const MAX_CONTENT_PARTS = 1_024;
/** Most tool calls of one message. */
export const MAX_TOOL_CALLS = 256;
/** Most prompts of one request, and most texts to embed. */
export const MAX_PROMPTS = 2_048;
/** Most characters that one ranking reads: its documents, and its query once for each. */
export const MAX_RANKED_CHARS = 16 * 1024 * 1024;
/** Most logit biases of one request. */
export const MAX_BIASES = 4_096;
/** Tokens that all biases of a request stand for. */
export const MAX_BIASED_TOKENS = 10_000;
/** Most answers of one request: its prompts times the answers to each. Those without a slot wait for one. */
export const MAX_ANSWERS = 512;
/** Most stop strings of one request. */
export const MAX_STOP_STRINGS = 16;
/** The same with those that a chat template adds. */
export const MAX_STOP_STRINGS_WITH_TEMPLATE = 64;
/** The port that a hive listens on by default. */
export const DEFAULT_HIVE_PORT = 9200;
/** The port that a queen listens on by default. */
export const DEFAULT_QUEEN_PORT = 8080;
/** Pause between two heartbeats of a hive. */
export const HEARTBEAT_INTERVAL_MS = 5_000;

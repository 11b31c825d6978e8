/** The numbers of downloading and of reading model files (SPEC §7), in one place. */

/** What a download is held to; tests shorten it. */
export interface ModelLimits {
  /** Attempts of one request or file before the download fails. */
  maxAttempts: number;
  /** Pause before the second attempt, doubled before each further one. */
  retryBaseDelayMs: number;
  /** Longest pause before jitter. */
  retryMaxDelayMs: number;
  /** Longest `Retry-After` that is obeyed. */
  maxRetryAfterMs: number;
  /** An attempt that brought this much was no failure of the other side: counting starts anew. */
  fruitfulBytes: number;
  /** Fewer than {@linkcode ModelLimits.stallBytes} in so long are a failure. */
  stallTimeoutMs: number;
  /** See {@linkcode ModelLimits.stallTimeoutMs}. */
  stallBytes: number;
  /** Connections that fetch one file. */
  connections: number;
  /** What a connection asks for at once. */
  partBytes: number;
  /** What a journal knows to be there or not: at most so much of each connection's work is lost. */
  chunkBytes: number;
  /** Least time between two `downloading` events: 8 a second leave room for the last one. */
  progressIntervalMs: number;
  /** A request for a download waits so long for the hub's facts, then answers with the id. */
  resolveGraceMs: number;
  /** Ended downloads that are still known to late joiners. */
  maxEndedDownloads: number;
}

/** The limits in use. */
export const MODEL_LIMITS: ModelLimits = {
  maxAttempts: 6,
  retryBaseDelayMs: 100,
  retryMaxDelayMs: 3_200,
  maxRetryAfterMs: 300_000,
  fruitfulBytes: 16 * 1024 * 1024,
  stallTimeoutMs: 60_000,
  stallBytes: 4096,
  connections: 8,
  partBytes: 8 * 1024 * 1024,
  chunkBytes: 64 * 1024,
  progressIntervalMs: 125,
  resolveGraceMs: 3_000,
  maxEndedDownloads: 100,
};

/** Times the same file is fetched when its digest or length is wrong. */
export const MAX_MISMATCHES = 2;
/** Redirects followed for one request. */
export const MAX_REDIRECTS = 5;
/** Largest JSON answer of the hub. */
export const MAX_HUB_ANSWER_BYTES = 16 * 1024 * 1024;
/** Pages of a repository's file list. */
export const MAX_TREE_PAGES = 100;
/** Largest file a hub may announce: far above any model, far below what numbers can hold. */
export const MAX_FILE_BYTES = 64 * 1024 ** 4;
/** Longest path of a file within its repository. */
export const MAX_FILE_PATH_CHARS = 512;
/** Largest file that may hold a hub token. */
export const MAX_TOKEN_FILE_BYTES = 8 * 1024;
/** A disk that has not said by then whether a file is there counts as away. */
export const FILE_LOOK_TIMEOUT_MS = 3_000;
/** Piece in which a file is read for its digest. */
export const REHASH_CHUNK_BYTES = 1024 * 1024;
/** Pause between two reports of a verification. */
export const VERIFY_PROGRESS_INTERVAL_MS = 100;
/** Files from this size on have their digest computed by a thread of its own while they come. */
export const DIGEST_THREAD_BYTES = 16 * 1024 * 1024;
/** Such a thread is given so much to do at once. */
export const DIGEST_STEP_BYTES = 4 * 1024 * 1024;
/** Attempts with another hive before the hub is asked. */
export const MAX_PEER_ATTEMPTS = 2;
/** A hive that has not said by then what it has is not waited for. */
export const PEER_ANSWER_TIMEOUT_MS = 2_000;
/** How often a download looks whether another process has let go of a file. */
export const CACHE_LOCK_POLL_MS = 500;
/** Files of one snapshot that are looked at. */
export const MAX_CACHED_FILES = 10_000;
/** After so many bytes a download notes what is on the disk for sure. */
export const SYNC_BYTES = 512 * 1024 * 1024;
/** Names that an error message lists. */
export const MAX_LISTED_NAMES = 40;

/** Everything before the tensor data of a GGUF file; the largest vocabularies take some 20 MB. */
export const MAX_GGUF_HEADER_BYTES = 128 * 1024 * 1024;
/** Metadata entries; real files have some dozens. */
export const MAX_GGUF_METADATA_COUNT = 1_024;
/** Tensors; real files have up to some thousands. */
export const MAX_GGUF_TENSOR_COUNT = 65_536;
/** Length of a metadata key. */
export const MAX_GGUF_KEY_BYTES = 1_024;
/** Length of a tensor's name: GGML_MAX_NAME less its terminator. */
export const MAX_GGUF_TENSOR_NAME_BYTES = 63;
/** Length of a string that is kept; longer ones are skipped. */
export const MAX_GGUF_KEPT_STRING_BYTES = 256;
/** Elements of an array that is kept, one for each layer at most; longer ones are skipped. */
export const MAX_GGUF_KEPT_ARRAY_COUNT = 512;
/** Parts of one split model. */
export const MAX_SPLIT_PARTS = 1_000;
/** Layers of a model: LLAMA_MAX_LAYERS. */
export const MAX_LAYERS = 512;
/** Bound of each other dimension of a model (width, heads, vocabulary…). */
export const MAX_DIMENSION = 2 ** 24;

/** Pause before a download of an earlier hive is tried again, doubled each time … */
export const RESUME_RETRY_MS = 5_000;
/** … up to this. */
export const RESUME_RETRY_MAX_MS = 300_000;
/** Hives that go on with a download one after the other, before it is left to whoever asks for it again. */
export const MAX_RESUMED_DOWNLOAD = 5;
/** Longest pause of another hive in reading a file that it is given. */
export const BLOB_STALL_TIMEOUT_MS = 120_000;

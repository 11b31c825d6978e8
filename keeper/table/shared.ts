/** Flags that many commands have. */

/** Says less. */
export const QUIET = { type: "boolean", help: "say nothing but results and errors" } as const;

/** One document instead of text. */
export const JSON_DOCUMENT = { type: "boolean", help: "print one JSON document" } as const;

/** What names a machine. */
export const NODE_HELP = "a name under nodes in config.yaml, localhost, or HOST:PORT";

/** What names a model. */
export const MODEL_HELP = "hf:OWNER/REPO[:QUANT_OR_FILE][@REVISION], file:/PATH.gguf or builtin:stories";

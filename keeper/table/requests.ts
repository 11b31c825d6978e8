/** `requests …`: what waits or runs in a queen. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { JSON_DOCUMENT, QUEEN, QUIET } from "./shared.ts";

const REQUESTS_FLAGS = {
  queen: {
    ...QUEEN,
    otherwise: "keeper.queen of config.yaml, else this machine's own",
    help: "the queen whose requests they are",
  },
  json: JSON_DOCUMENT,
  quiet: QUIET,
} as const;

const REQUESTS_LIST_FLAGS = {
  limit: { type: "integer", value: "N", min: 1, max: 1_000, default: 100, help: "show so many at most" },
  ...REQUESTS_FLAGS,
} as const;
/** Values of the flags of `requests list`. */
export type RequestsListFlags = FlagsOf<typeof REQUESTS_LIST_FLAGS>;

const REQUESTS_CANCEL_FLAGS = {
  id: { type: "text", value: "ID", required: true, help: "which one; the beginning of its id is enough" },
  ...REQUESTS_FLAGS,
} as const;
/** Values of the flags of `requests cancel`. */
export type RequestsCancelFlags = FlagsOf<typeof REQUESTS_CANCEL_FLAGS>;

/** See the file's head. */
export const REQUESTS_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["requests", "list"],
    summary: "show the requests that wait or run in a queen, where, and for how long",
    details:
      "Whatever way they came, in that order. A client's key shows its own; what they ask is not shown.",
    flags: REQUESTS_LIST_FLAGS,
    examples: ["requests list", "requests list --queen http://queen.lan:8080 --json"],
    load: () => import("../commands/requests.ts").then((module) => module.REQUESTS_LIST),
  }),
  defineCommand({
    path: ["requests", "cancel"],
    summary: "cancel a request; its client gets REQUEST_CANCELED",
    flags: REQUESTS_CANCEL_FLAGS,
    bare: "id",
    examples: ["requests cancel 3f9a"],
    load: () => import("../commands/requests.ts").then((module) => module.REQUESTS_CANCEL),
  }),
];

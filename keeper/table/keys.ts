/** `keys …` and `config …`: who may call a queen, what they have used, and its configuration. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { JSON_DOCUMENT, QUIET } from "./shared.ts";

const OF_QUEEN = {
  type: "text",
  value: "URL",
  environment: "RBEE_QUEEN",
  otherwise: "keeper.queen of config.yaml, else this machine's own",
  help: "the queen whose keys they are",
} as const;

const KEYS_LIST_FLAGS = { queen: OF_QUEEN, json: JSON_DOCUMENT, quiet: QUIET } as const;
/** Values of the flags of `keys list`. */
export type KeysListFlags = FlagsOf<typeof KEYS_LIST_FLAGS>;

const YES_NO = ["yes", "no"] as const;

const NAME = { type: "text", value: "NAME", required: true, help: "what the key is called" } as const;

/** How much a key may have. */
const LIMIT_FLAGS = {
  share: {
    type: "number",
    value: "N",
    min: 0.01,
    max: 1_000,
    otherwise: "1",
    help: "share of what there is, beside other keys",
  },
  "requests-per-minute": { type: "integer", value: "N", min: 1, help: "most requests in a minute" },
  "tokens-per-minute": {
    type: "integer",
    value: "N",
    min: 1,
    help: "most tokens, read and made, in a minute",
  },
  "tokens-per-day": { type: "integer", value: "N", min: 1, help: "most tokens, read and made, in a day" },
  "cache-group": {
    type: "text",
    value: "NAME",
    help: "share cached prompts with the other keys of this group",
  },
  models: {
    type: "text",
    value: "REF",
    repeatable: true,
    otherwise: "all",
    help: "a model that it may use, or how references begin, with * at the end. May be repeated",
  },
  nodes: {
    type: "text",
    value: "NODE",
    repeatable: true,
    otherwise: "all",
    help: "a machine that its requests may run on. May be repeated",
  },
  context: { type: "integer", value: "N", min: 1, help: "most tokens of a request and its answers together" },
  grammar: {
    type: "text",
    choices: YES_NO,
    otherwise: "yes",
    help: "whether it may ask for grammars, JSON and tools",
  },
  downloads: {
    type: "text",
    choices: YES_NO,
    otherwise: "yes",
    help: "whether a model may be downloaded for its requests",
  },
  priority: {
    type: "text",
    choices: ["interactive", "batch"],
    otherwise: "interactive",
    help: "the most urgent that its requests may be",
  },
} as const;
/** Their names. */
export const LIMIT_FLAG_NAMES: readonly string[] = Object.keys(LIMIT_FLAGS);
/** Values of these flags. */
export type LimitFlags = FlagsOf<typeof LIMIT_FLAGS>;

const KEYS_ADD_FLAGS = {
  name: NAME,
  rights: {
    type: "text",
    value: "RIGHT",
    choices: ["owner", "operator", "hive", "client"],
    repeatable: true,
    otherwise: "client",
    help:
      "owner: everything; operator: machines and models; hive: one machine's reports; client: answers. May be repeated",
  },
  node: { type: "text", value: "NODE", help: "with --rights hive: the one machine that it may report" },
  ...LIMIT_FLAGS,
  ...KEYS_LIST_FLAGS,
} as const;
/** Values of the flags of `keys add`. */
export type KeysAddFlags = FlagsOf<typeof KEYS_ADD_FLAGS>;

const KEYS_CHANGE_FLAGS = {
  name: NAME,
  ...LIMIT_FLAGS,
  unset: {
    type: "text",
    value: "FLAG",
    choices: LIMIT_FLAG_NAMES,
    repeatable: true,
    help: "put one of these back to what it is when nothing is said. May be repeated",
  },
  ...KEYS_LIST_FLAGS,
} as const;
/** Values of the flags of `keys change`. */
export type KeysChangeFlags = FlagsOf<typeof KEYS_CHANGE_FLAGS>;

const ONE_KEY_FLAGS = { name: NAME, ...KEYS_LIST_FLAGS } as const;
/** Values of the flags of `keys rotate` and `remove`. */
export type OneKeyFlags = FlagsOf<typeof ONE_KEY_FLAGS>;

const KEYS_USAGE_FLAGS = {
  name: {
    type: "text",
    value: "NAME",
    otherwise: "all keys",
    help: "only this key; owner is the queen's own",
  },
  from: { type: "text", value: "DAY", otherwise: "29 days ago", help: "first day, YYYY-MM-DD in UTC" },
  to: { type: "text", value: "DAY", otherwise: "today", help: "last day" },
  ...KEYS_LIST_FLAGS,
} as const;
/** Values of the flags of `keys usage`. */
export type KeysUsageFlags = FlagsOf<typeof KEYS_USAGE_FLAGS>;

const CONFIG_RELOAD_FLAGS = {
  queen: { ...OF_QUEEN, help: "the queen that reads its config.yaml again" },
  json: JSON_DOCUMENT,
  quiet: QUIET,
} as const;
/** Values of the flags of `config reload`. */
export type ConfigReloadFlags = FlagsOf<typeof CONFIG_RELOAD_FLAGS>;

const keys = () => import("../commands/keys.ts");

/** See the file's head. */
export const KEYS_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["keys", "list"],
    summary: "show the keys of a queen, what each may do, and its limits",
    flags: KEYS_LIST_FLAGS,
    examples: ["keys list"],
    load: () => keys().then((module) => module.KEYS_LIST),
  }),
  defineCommand({
    path: ["keys", "add"],
    summary: "make a key and print it; this is the one time that it is shown",
    flags: KEYS_ADD_FLAGS,
    bare: "name",
    examples: ["keys add ada --tokens-per-day 1000000", "keys add hive-gpu --rights hive --node gpu"],
    load: () => keys().then((module) => module.KEYS_ADD),
  }),
  defineCommand({
    path: ["keys", "change"],
    summary: "change what a key may have, from its next request on; the rest stays",
    flags: KEYS_CHANGE_FLAGS,
    bare: "name",
    examples: [
      "keys change ada --models 'hf:acme/*' --context 8192",
      "keys change ada --unset tokens-per-day",
    ],
    load: () => keys().then((module) => module.KEYS_CHANGE),
  }),
  defineCommand({
    path: ["keys", "rotate"],
    summary: "give a key a new secret and print it; the old one is void at once",
    details: "What runs in its name goes on.",
    flags: ONE_KEY_FLAGS,
    bare: "name",
    examples: ["keys rotate ada"],
    load: () => keys().then((module) => module.KEYS_ROTATE),
  }),
  defineCommand({
    path: ["keys", "remove"],
    summary: "remove a key, and end what runs or waits in its name",
    flags: ONE_KEY_FLAGS,
    bare: "name",
    examples: ["keys remove ada"],
    load: () => keys().then((module) => module.KEYS_REMOVE),
  }),
  defineCommand({
    path: ["keys", "usage"],
    summary: "show what keys have used, by day and model",
    flags: KEYS_USAGE_FLAGS,
    bare: "name",
    examples: ["keys usage", "keys usage ada --from 2026-11-01"],
    load: () => keys().then((module) => module.KEYS_USAGE),
  }),
  defineCommand({
    path: ["config", "reload"],
    summary: "have a queen take over changed models and keys of its config.yaml",
    details: "Nothing is interrupted. A faulty file changes nothing, and what is wrong with it is shown.",
    flags: CONFIG_RELOAD_FLAGS,
    examples: ["config reload"],
    load: () => keys().then((module) => module.CONFIG_RELOAD),
  }),
];

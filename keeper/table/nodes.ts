/** `nodes …`, and the same under the older names `setup …`: the machines that are known. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { JSON_DOCUMENT, QUIET } from "./shared.ts";

const OF_QUEEN = {
  type: "text",
  value: "URL",
  otherwise: "config.yaml of this machine",
  help: "about the machines that this queen knows, by way of it",
} as const;

const NODES_LIST_FLAGS = { queen: OF_QUEEN, json: JSON_DOCUMENT, quiet: QUIET } as const;
/** Values of the flags of `nodes list`. */
export type NodesListFlags = FlagsOf<typeof NODES_LIST_FLAGS>;

const NAME = { type: "text", value: "NAME", required: true, help: "what the machine is called" } as const;

const NODES_ADD_FLAGS = {
  name: NAME,
  url: { type: "text", value: "URL", otherwise: "http://HOST:9200 of --ssh", help: "where its hive listens" },
  "api-key-file": {
    type: "text",
    value: "FILE",
    otherwise: "what nodes install brings",
    help: "holds its hive's key",
  },
  ssh: { type: "text", value: "USER@HOST[:PORT]", help: "for nodes install, start and stop" },
  "install-path": {
    type: "text",
    value: "PATH",
    otherwise: ".local/share/rbee",
    help: "where rbee lies there",
  },
  ...NODES_LIST_FLAGS,
} as const;
/** Values of the flags of `nodes add`. */
export type NodesAddFlags = FlagsOf<typeof NODES_ADD_FLAGS>;

const NODE_FLAGS = { name: NAME, ...NODES_LIST_FLAGS } as const;
/** Values of the flags of `nodes remove`, `start` and `stop`. */
export type OneNodeFlags = FlagsOf<typeof NODE_FLAGS>;

const NODES_INSTALL_FLAGS = {
  name: NAME,
  "no-start": { type: "boolean", help: "don't start its hive afterwards" },
  archive: {
    type: "text",
    value: "FILE",
    otherwise: "this installation's own",
    help: "what to install, for another kind of machine",
  },
  ...NODES_LIST_FLAGS,
} as const;
/** Values of the flags of `nodes install`. */
export type NodesInstallFlags = FlagsOf<typeof NODES_INSTALL_FLAGS>;

const QUEEN_NODE_FLAGS = {
  name: NAME,
  queen: {
    ...OF_QUEEN,
    otherwise: "keeper.queen of the configuration",
    help: "the queen whose machine it is",
  },
  json: JSON_DOCUMENT,
  quiet: QUIET,
} as const;
/** Values of the flags of `nodes cordon` and `uncordon`. */
export type QueenNodeFlags = FlagsOf<typeof QUEEN_NODE_FLAGS>;

const NODES_DRAIN_FLAGS = {
  ...QUEEN_NODE_FLAGS,
  timeout: {
    type: "integer",
    value: "SECONDS",
    min: 0,
    max: 3_600,
    default: 300,
    help: "how long its answers may take to end by themselves",
  },
} as const;
/** Values of the flags of `nodes drain`. */
export type NodesDrainFlags = FlagsOf<typeof NODES_DRAIN_FLAGS>;

const NODES_LABEL_FLAGS = {
  ...QUEEN_NODE_FLAGS,
  add: { type: "text", value: "LABEL", repeatable: true, help: "a label that it gets" },
  remove: { type: "text", value: "LABEL", repeatable: true, help: "a label that it loses" },
} as const;
/** Values of the flags of `nodes label`. */
export type NodesLabelFlags = FlagsOf<typeof NODES_LABEL_FLAGS>;

const SETUP_INSTALL_FLAGS = {
  node: { ...NAME, help: "which machine" },
  "no-start": NODES_INSTALL_FLAGS["no-start"],
  archive: NODES_INSTALL_FLAGS.archive,
  ...NODES_LIST_FLAGS,
} as const;

const list = () => import("../commands/nodes.ts").then((module) => module.NODES_LIST);
const add = () => import("../commands/nodes.ts").then((module) => module.NODES_ADD);
const remove = () => import("../commands/nodes.ts").then((module) => module.NODES_REMOVE);
const remote = () => import("../commands/nodes_remote.ts");
const cordon = () => import("../commands/nodes_cordon.ts");

/** See the file's head. */
export const NODES_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["nodes", "list"],
    summary: "show the machines that are known, and which of them answer",
    flags: NODES_LIST_FLAGS,
    examples: ["nodes list"],
    load: list,
  }),
  defineCommand({
    path: ["nodes", "add"],
    summary: "add a machine to config.yaml, or change what is known of it",
    flags: NODES_ADD_FLAGS,
    bare: "name",
    examples: [
      "nodes add mac --url http://mac.local:9200 --api-key-file ~/.rbee/mac.key",
      "nodes add gpu --ssh me@gpu.local",
    ],
    load: add,
  }),
  defineCommand({
    path: ["nodes", "remove"],
    summary: "take a machine out of config.yaml; nothing is changed on it",
    flags: NODE_FLAGS,
    bare: "name",
    examples: ["nodes remove mac"],
    load: remove,
  }),
  defineCommand({
    path: ["nodes", "install"],
    summary: "put this version of rbee on a machine over ssh, and start its hive",
    details:
      "Sends the archive of this version, makes a key there and brings it here. Where the user has a systemd of his own " +
      "the hive becomes a service of it. Run again it upgrades, without a break for what runs. Nothing has to be there " +
      "but tar and gzip.",
    flags: NODES_INSTALL_FLAGS,
    bare: "name",
    examples: ["nodes install gpu"],
    load: () => remote().then((module) => module.NODES_INSTALL),
  }),
  defineCommand({
    path: ["nodes", "start"],
    summary: "start a machine's hive over ssh",
    flags: NODE_FLAGS,
    bare: "name",
    examples: ["nodes start gpu"],
    load: () => remote().then((module) => module.NODES_START),
  }),
  defineCommand({
    path: ["nodes", "stop"],
    summary: "stop a machine's hive and its workers over ssh",
    flags: NODE_FLAGS,
    bare: "name",
    examples: ["nodes stop gpu"],
    load: () => remote().then((module) => module.NODES_STOP),
  }),
  defineCommand({
    path: ["nodes", "cordon"],
    summary: "have a queen send nothing new to a machine; what runs there goes on",
    details: "It stays so after a restart of the queen or of the machine, until nodes uncordon.",
    flags: QUEEN_NODE_FLAGS,
    bare: "name",
    examples: ["nodes cordon gpu --queen http://queen.lan:8080"],
    load: () => cordon().then((module) => module.NODES_CORDON),
  }),
  defineCommand({
    path: ["nodes", "uncordon"],
    summary: "have a queen send work to a machine again",
    flags: QUEEN_NODE_FLAGS,
    bare: "name",
    examples: ["nodes uncordon gpu"],
    load: () => cordon().then((module) => module.NODES_UNCORDON),
  }),
  defineCommand({
    path: ["nodes", "drain"],
    summary: "cordon a machine, wait for its answers, and stop its workers",
    details:
      "Answers that are not over in time go on elsewhere. The hive stays; nodes uncordon gives it work again.",
    flags: NODES_DRAIN_FLAGS,
    bare: "name",
    examples: ["nodes drain gpu --timeout 60"],
    load: () => cordon().then((module) => module.NODES_DRAIN),
  }),
  defineCommand({
    path: ["nodes", "label"],
    summary: "add labels to a queen's machine, or take them off",
    flags: NODES_LABEL_FLAGS,
    bare: "name",
    examples: ["nodes label gpu --add fast --remove test"],
    load: () => cordon().then((module) => module.NODES_LABEL),
  }),
  defineCommand({
    path: ["setup", "add-node"],
    summary: "the same as nodes add",
    flags: NODES_ADD_FLAGS,
    bare: "name",
    unlisted: true,
    examples: ["setup add-node mac --url http://mac.local:9200"],
    load: add,
  }),
  defineCommand({
    path: ["setup", "list-nodes"],
    summary: "the same as nodes list",
    flags: NODES_LIST_FLAGS,
    unlisted: true,
    examples: ["setup list-nodes"],
    load: list,
  }),
  defineCommand({
    path: ["setup", "remove-node"],
    summary: "the same as nodes remove",
    flags: NODE_FLAGS,
    bare: "name",
    unlisted: true,
    examples: ["setup remove-node mac"],
    load: remove,
  }),
  defineCommand({
    path: ["setup", "install"],
    summary: "the same as nodes install",
    flags: SETUP_INSTALL_FLAGS,
    bare: "node",
    unlisted: true,
    examples: ["setup install --node gpu"],
    load: () => remote().then((module) => module.SETUP_INSTALL),
  }),
];

import { assertEquals } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import { explain, type Place } from "./explain.ts";

const PLACE: Place = {
  configPath: "/home/me/.rbee/config.yaml",
  hiveLog: "/home/me/.rbee/logs/hive.log",
  node: {
    name: "mac",
    url: "http://10.0.0.2:9200",
    keySource: "/home/me/mac.key",
    local: false,
    keySetting: "nodes.mac.api_key_file",
  },
};
const LOCAL: Place = {
  ...PLACE,
  node: { name: "localhost", url: "http://127.0.0.1:9200", keySource: "/home/me/.rbee/api_key", local: true },
};

function shown(error: RbeeError, place?: Place): string[] {
  const { headline, notes } = explain(error, place);
  return [headline, ...notes];
}

Deno.test("EC1: an unreachable hive comes with what to look at", () => {
  const error = new RbeeError("NODE_UNREACHABLE", "Cannot connect to 10.0.0.2:9200 after 3 attempts", {
    details: { hive: "10.0.0.2:9200" },
  });
  assertEquals(shown(error, PLACE), [
    "Cannot connect to 10.0.0.2:9200 after 3 attempts",
    "Check that a hive runs there (on that machine: rbee-hive daemon --listen 0.0.0.0:9200),",
    "that no firewall is in between, and that the address is right (nodes.mac.url in /home/me/.rbee/config.yaml).",
  ]);
  assertEquals(shown(error, LOCAL).slice(1), [
    "Perhaps no hive runs on this machine: infer starts one when it needs it. Its log: /home/me/.rbee/logs/hive.log",
  ]);
});

Deno.test("EC3: too little memory is shown as required and available", () => {
  const error = new RbeeError("INSUFFICIENT_RAM", "hf:a/b needs 9000.2 MB. With --slots 1 it fits.", {
    details: { required_mb: 9000.2, available_mb: 4000.9 },
  });
  assertEquals(shown(error), [
    "hf:a/b needs 9000.2 MB. With --slots 1 it fits.",
    "Required: 9001 MB, available: 4000 MB",
  ]);
});

Deno.test("EC4: a partial answer comes with its file and how far it got", () => {
  const error = (max_tokens?: number) =>
    new RbeeError("WORKER_CRASHED", "The worker died", {
      details: { partial_path: "/tmp/rbee-partial-x.txt", tokens_generated: 12, max_tokens },
    });
  assertEquals(shown(error(20)), [
    "The worker died",
    "Partial answer saved to /tmp/rbee-partial-x.txt",
    "Tokens generated: 12 / 20",
    "Run the same command again: a new worker will be started.",
  ]);
  assertEquals(shown(error())[2], "Tokens generated: 12");
});

Deno.test("EC8: the older side is the one to upgrade", () => {
  const error = (older: string) =>
    new RbeeError("VERSION_MISMATCH", "The versions differ", { details: { older, hive_version: "9.0.0" } });
  assertEquals(shown(error("keeper"), PLACE)[1].startsWith("Upgrade this keeper to 9.0.0"), true);
  assertEquals(shown(error("hive"), PLACE)[1].startsWith("Upgrade rbee on mac to "), true);
  assertEquals(shown(error("hive"), LOCAL)[1].includes("started by another version"), true);
});

Deno.test("EC9: authentication names node, configuration and where the key came from, never the key", () => {
  assertEquals(shown(new RbeeError("INVALID_API_KEY", "The key is not the one of this daemon."), PLACE), [
    "Authentication failed",
    "Node: mac (http://10.0.0.2:9200)",
    "Config: /home/me/.rbee/config.yaml",
    "Key: /home/me/mac.key",
    "Put its key into a file (mode 0600) and name it as nodes.mac.api_key_file in the config.",
  ]);
});

Deno.test("a key without a right is not reported as a wrong key: the message names the right and where the key came from", () => {
  const message = "This route takes a key with the right operator, which this key lacks.";
  assertEquals(shown(new RbeeError("FORBIDDEN", message), PLACE), [
    message,
    "Node: mac (http://10.0.0.2:9200)",
    "Key: /home/me/mac.key",
  ]);
});

Deno.test("the end of a log is shown line by line", () => {
  const error = new RbeeError("WORKER_START_FAILED", "It died", {
    details: { log_tail: ["one", "two"] },
  });
  assertEquals(shown(error), ["It died", "The log ends with:", "  one", "  two"]);
});

Deno.test("a defect carries its correlation id", () => {
  const error = new RbeeError("INTERNAL", "A defect", { correlationId: "abc-1" });
  assertEquals(shown(error), ["A defect", "Correlation id: abc-1"]);
});

import { assertEquals, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { RbeeError } from "../protocol/errors.ts";
import { Keys } from "./keys.ts";

const hash = (key: string) => createHash("sha256").update(key).digest("hex");
const KEY = { name: "ada", hash: hash("key-of-ada"), share: 2 };

Deno.test("a key is known by its hash, and has its share", () => {
  const keys = new Keys([KEY], 0);
  assertEquals([keys.identify("key-of-ada"), keys.identify("another")], ["ada", undefined]);
  assertEquals([keys.shareOf("ada"), keys.shareOf("owner")], [2, 1]);
});

Deno.test("requests and tokens beyond a key's limits are refused, with the time until there are more", () => {
  const keys = new Keys([{ ...KEY, requests_per_minute: 2, tokens_per_minute: 600 }], 0);
  keys.admit("ada", 0);
  keys.admit("ada", 0);
  const often = assertThrows(() => keys.admit("ada", 0), RbeeError);
  assertEquals([often.code, often.retryAfterSeconds, often.details.limit], ["RATE_LIMITED", 30, "requests"]);
  keys.admit("ada", 30_000);
  keys.requireTokens("ada", 600, 30_000);
  keys.spent("ada", 900, 60_000);
  const much = assertThrows(() => keys.requireTokens("ada", 100, 60_000), RbeeError);
  assertEquals([much.retryAfterSeconds, much.details.limit], [40, "tokens"]);
  keys.requireTokens("ada", 100, 100_000);
});

Deno.test("the owner, and who has no limits, is never refused", () => {
  const keys = new Keys([KEY], 0);
  for (let i = 0; i < 1_000; i++) {
    for (const name of ["ada", "owner"]) {
      keys.admit(name, 0);
      keys.requireTokens(name, 1e9, 0);
    }
  }
});

import { assertEquals, assertThrows } from "@std/assert";
import * as fc from "fast-check";
import { RbeeError } from "../protocol/errors.ts";
import { BodyBudget } from "./body_budget.ts";
import { may } from "../protocol/rights.ts";
import { timingSafeEqual } from "node:crypto";
import { digestOf } from "./auth.ts";
import { createApp } from "./serve.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";

Deno.test("what all requests hold together stays within the budget, but for one that is alone", () => {
  const step = fc.record({
    request: fc.nat(4),
    bytes: fc.integer({ min: 1, max: 60 }),
    release: fc.boolean(),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const budget = new BodyBudget(100);
    const shares = Array.from({ length: 5 }, () => ({ share: budget.open(), held: 0 }));
    for (const { request, bytes, release } of steps) {
      const one = shares[request];
      const others = shares.reduce((sum, { held }) => sum + held, 0) - one.held;
      if (release) {
        one.share.release();
        one.share.release();
        one.held = 0;
      } else if (others > 0 && others + one.held + bytes > 100) {
        assertEquals(assertThrows(() => one.share.take(bytes), RbeeError).code, "QUEUE_FULL");
      } else {
        one.share.take(bytes);
        one.held += bytes;
      }
    }
  }));
});

Deno.test("a body counts until its answer is over, and a caller's smaller limit holds", async () => {
  const app = createApp({
    apiKey: "owner-key",
    clients: (digest) =>
      timingSafeEqual(digest, digestOf("client-key")) ? { id: "ada", rights: ["client"] } : undefined,
    bodyLimitBytes: (caller) => may(caller, "owner") ? Infinity : 10,
    bodiesMaxBytes: 100,
    log: keptLog().log,
    routes: [{
      spec: { method: "POST", path: "/x", rights: ["client"] },
      handle: async ({ bytes }) => Response.json({ bytes: (await bytes()).length }),
    }],
  });
  const post = (bytes: number, how: { key?: string; sent?: Promise<unknown> } = {}) =>
    app(
      new Request("http://host/x", {
        method: "POST",
        headers: { Authorization: `Bearer ${how.key ?? "owner-key"}` },
        body: new Uint8Array(bytes),
      }),
      how.sent,
    );
  const sent = Promise.withResolvers<void>();
  assertEquals((await post(60, { sent: sent.promise })).status, 200);
  const refused = await post(60);
  assertEquals([refused.status, refused.headers.get("Retry-After")], [429, "1"]);
  sent.resolve();
  await sent.promise;
  assertEquals((await post(60)).status, 200);
  assertEquals((await post(200)).status, 200, "one that is alone may be larger");
  assertEquals((await post(10, { key: "client-key" })).status, 200);
  const large = await post(11, { key: "client-key" });
  assertEquals([large.status, (await large.json()).error.details], [413, { limit_bytes: 10 }]);
});

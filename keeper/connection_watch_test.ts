import { assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { StreamCutError } from "../protocol/sse.ts";
import { checkReachable, watchConnection } from "./connection_watch.ts";

const NOWHERE = "http://no-such-host.invalid:9";

Deno.test("a silent stream whose host can't be reached is cut within 5 s", async () => {
  const startedMs = performance.now();
  using watch = watchConnection(NOWHERE, new AbortController().signal);
  const cut = Promise.withResolvers<void>();
  watch.signal.addEventListener("abort", () => cut.resolve(), { once: true });
  await cut.promise;
  assertInstanceOf(watch.signal.reason, StreamCutError);
  assertEquals(performance.now() - startedMs < 5_000, true);
});

Deno.test("a host counts as reachable when it accepts, and also when it refuses: a draining worker does", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${listener.addr.port}`;
  await checkReachable(url, new AbortController().signal);
  listener.close();
  await checkReachable(url, new AbortController().signal);
  await assertRejects(() => checkReachable(NOWHERE, new AbortController().signal));
});

Deno.test("the watch aborts as the call it guards does", () => {
  const outer = new AbortController();
  using watch = watchConnection(NOWHERE, outer.signal);
  outer.abort("over");
  assertEquals(watch.signal.reason, "over");
});

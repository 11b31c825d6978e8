/** What `models verify` makes of a hive that does not come to an end. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { HIVE_ROUTES } from "../../protocol/routes.ts";
import { runKeeper, startKeeper, testHome } from "../testing/keeper_process.ts";
import { type Answers, events, on, standInHive, standInWorker } from "../testing/stand_in.ts";

const VERIFYING = { stage: "verifying", bytes_done: 1, bytes_total: 4 };
const MODEL = {
  ...{ id: "1", provider: "builtin", reference: "builtin:stories", revision: null, local_path: "/m.gguf" },
  ...{ size_bytes: 4, sha256: null, downloaded_at_unix: 1, companions: [], in_use: false },
  ...{ last_used_at_unix: null, verified_at_unix: null },
};

async function withHive(
  answers: Answers,
  test: (home: Awaited<ReturnType<typeof testHome>>) => Promise<void>,
) {
  await using worker = standInWorker();
  const list = () => Response.json({ models: [MODEL] });
  await using hive = standInHive(worker, { [on(HIVE_ROUTES.models)]: list, ...answers });
  await using home = await testHome(hive);
  await test(home);
}

Deno.test("a hive that goes away is named as the reason", () => {
  const cut = () =>
    new Response(`data: ${JSON.stringify(VERIFYING)}\n\n`, {
      headers: { "Content-Type": "text/event-stream" },
    });
  return withHive({ [on(HIVE_ROUTES.verifyModel)]: cut }, async (home) => {
    const { code, stdout, stderr } = await runKeeper(["models", "verify", "--node", "stand-in"], { home });
    assertEquals([code, stdout], [1, ""]);
    assertStringIncludes(
      stderr,
      "Error: The connection to the hive broke off while it verified builtin:stories.",
    );
  });
});

Deno.test("Ctrl+C leaves the stream, which ends the hashing", async () => {
  const left = Promise.withResolvers<void>();
  const endless = () => {
    const { body, headers } = events((writer) => writer.send(VERIFYING));
    const reader = body!.getReader();
    const stream = new ReadableStream<Uint8Array>({
      pull: async (controller) => controller.enqueue((await reader.read()).value!),
      cancel: (reason) => reader.cancel(reason).then(() => left.resolve()),
    });
    return new Response(stream, { headers });
  };
  await withHive({ [on(HIVE_ROUTES.verifyModel)]: endless }, async (home) => {
    const keeper = startKeeper(["models", "verify", "--node", "stand-in"], { home });
    await keeper.shows("stderr", "Verifying builtin:stories...");
    keeper.signal("SIGINT");
    const { code, stderr } = await keeper.finished;
    assertEquals(code, 130);
    assertMatch(stderr, /Canceled/);
    await left.promise;
  });
});

/** EC5 and its kin: Ctrl+C in every phase, once and twice, on the real keeper. */
import { assertEquals } from "@std/assert";
import { HIVE_ROUTES, WORKER_ROUTES } from "../protocol/routes.ts";
import { startKeeper, testHome } from "./testing/keeper_process.ts";
import { events, failure, on, sendTokens, standInHive, standInWorker } from "./testing/stand_in.ts";

const INFER = ["infer", "--node", "stand-in", "--prompt", "x", "--max-tokens", "20"];

/** An answer that begins and never ends. */
function endless(): Response {
  return events((writer) => sendTokens(writer, ["Once", " upon"]));
}

Deno.test("EC5: Ctrl+C tells the worker, says so and exits with 130", async () => {
  await using worker = standInWorker({ [on(WORKER_ROUTES.inference)]: endless });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const keeper = startKeeper([...INFER, "--quiet"], { home });
  await keeper.shows("stdout", " upon");
  keeper.signal("SIGINT");
  assertEquals(await keeper.finished, { code: 130, stdout: "Once upon\n", stderr: "Canceled.\n" });
  const [asked, canceled] = [WORKER_ROUTES.inference, WORKER_ROUTES.cancel].map((route) =>
    worker.calls.find((call) => call.route === on(route))
  );
  assertEquals(canceled?.params.request_id, (asked?.body as { request_id: string }).request_id);
});

Deno.test("EC5: a worker that does not confirm is named after 5 s at most", async () => {
  await using worker = standInWorker({
    [on(WORKER_ROUTES.inference)]: endless,
    [on(WORKER_ROUTES.cancel)]: () => failure("INTERNAL", "no"),
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const keeper = startKeeper([...INFER, "--quiet"], { home });
  await keeper.shows("stdout", " upon");
  keeper.signal("SIGINT");
  const { code, stderr } = await keeper.finished;
  assertEquals([code, stderr], [130, "Canceled (worker may still be processing).\n"]);
});

Deno.test("EC5: a second Ctrl+C leaves at once", async () => {
  const asked = Promise.withResolvers<void>();
  const over = Promise.withResolvers<Response>();
  await using worker = standInWorker({
    [on(WORKER_ROUTES.inference)]: endless,
    [on(WORKER_ROUTES.cancel)]: () => {
      asked.resolve();
      return over.promise;
    },
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const keeper = startKeeper([...INFER, "--quiet"], { home });
  await keeper.shows("stdout", " upon");
  keeper.signal("SIGINT");
  await asked.promise;
  keeper.signal("SIGINT");
  const { code, stderr } = await keeper.finished;
  over.resolve(new Response(null, { status: 204 }));
  assertEquals([code, stderr], [130, ""]);
});

Deno.test("Ctrl+C during a download stops it at the hive", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker, {
    [on(HIVE_ROUTES.download)]: () => Response.json({ download_id: "d-1" }, { status: 202 }),
    [on(HIVE_ROUTES.downloadProgress)]: () =>
      events((writer) =>
        writer.send({ stage: "downloading", bytes_downloaded: 1, bytes_total: 9, speed_mbps: 1 })
      ),
    [on(HIVE_ROUTES.cancelDownload)]: () => Response.json({ canceled: true }),
  });
  await using home = await testHome(hive);
  const keeper = startKeeper(INFER, { home });
  await keeper.shows("stderr", "Downloading model...");
  keeper.signal("SIGINT");
  const { code, stderr } = await keeper.finished;
  assertEquals([code, stderr], [
    130,
    "Downloading model...\nCanceled. What was downloaded is kept for the next try.\n",
  ]);
  assertEquals(hive.calls.at(-1)?.params.id, "d-1");
});

Deno.test("Ctrl+C during loading leaves the worker to the next command", async () => {
  await using worker = standInWorker({
    [on(WORKER_ROUTES.ready)]: () => Response.json({ ready: false, state: "loading", progress_url: "/x" }),
    [on(WORKER_ROUTES.loadingProgress)]: () => events(() => {}),
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const keeper = startKeeper(INFER, { home });
  await keeper.shows("stderr", "Loading model to VRAM...");
  keeper.signal("SIGINT");
  const { code, stderr } = await keeper.finished;
  assertEquals([code, stderr.split("\n")[2]], [
    130,
    "Canceled. The worker goes on loading and will be there for the next command.",
  ]);
});

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { HIVE_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { openRegistry } from "../registry.ts";
import { runKeeper, startKeeper, testHome } from "../testing/keeper_process.ts";
import {
  answerOf,
  events,
  HIVE_KEY,
  idle,
  on,
  spawned,
  standInHive,
  standInWorker,
  startStandIn,
} from "../testing/stand_in.ts";

const ON_STAND_IN = ["--node", "stand-in"];

Deno.test("a first infer goes through all phases; tokens on stdout, one line per stage on stderr", async () => {
  let polls = 0;
  await using worker = standInWorker({
    [on(WORKER_ROUTES.ready)]: () =>
      Response.json(
        polls++ > 0 ? idle() : { ready: false, state: "loading", progress_url: "/v1/loading/progress" },
      ),
  });
  await using hive = standInHive(worker, {
    [on(HIVE_ROUTES.download)]: () => Response.json({ download_id: "d-1" }, { status: 202 }),
    [on(HIVE_ROUTES.downloadProgress)]: () =>
      events((writer) => {
        writer.send({
          stage: "downloading",
          bytes_downloaded: 1e6,
          bytes_total: 5e6,
          speed_mbps: 45.2,
          eta_seconds: 1,
        });
        writer.send({
          stage: "retrying",
          attempt: 1,
          max_attempts: 6,
          delay_ms: 100,
          reason: "connection reset",
        });
        writer.send({ stage: "verifying" });
        writer.send({ stage: "complete", local_path: "/models/m.gguf" });
        writer.end();
      }),
  });
  await using home = await testHome(hive);
  const { code, stdout, stderr } = await runKeeper(
    [
      "infer",
      ...ON_STAND_IN,
      "--prompt",
      "write",
      "--max-tokens",
      "20",
      "--temperature",
      "0.5",
      "--slots",
      "2",
    ],
    { home },
  );
  assertEquals(stdout, "Once upon a time\n");
  assertEquals(stderr.split("\n"), [
    "Downloading model...",
    "The download broke off: connection reset. Retry 1/6 in 100 ms.",
    "Verifying model...",
    "Starting worker w-1 on stand-in (cpu device 0, chosen automatically).",
    "Loading model to VRAM...",
    "Model ready!",
    "",
  ]);
  assertEquals(code, 0);
  const spawn = hive.calls.find((call) => call.route === on(HIVE_ROUTES.spawn));
  assertEquals(spawn?.body, { model_ref: "builtin:stories", backend: "auto", device: 0, slots: 2 });
  const { request_id, ...request } = worker.calls.find((call) => call.route === on(WORKER_ROUTES.inference))
    ?.body as Record<string, unknown>;
  assertMatch(String(request_id), /^[0-9a-f-]{36}$/);
  assertEquals(request, {
    messages: [{ role: "user", content: "write" }],
    max_tokens: 20,
    temperature: 0.5,
    stop: [],
    stream: true,
  });
  // One command, one correlation id, at every hop.
  const ids = [...hive.calls, ...worker.calls].map((call) => call.headers.get("X-Correlation-Id"));
  assertEquals(new Set(ids).size, 1);
});

Deno.test("a second infer asks the same worker and no hive, after one probe", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const args = ["infer", ...ON_STAND_IN, "--prompt", "write"];
  assertEquals((await runKeeper(args, { home })).code, 0);
  const [hiveCalls, probes] = [hive.calls.length, worker.count(WORKER_ROUTES.ready)];
  const second = await runKeeper(args, { home });
  assertEquals(second, { code: 0, stdout: "Once upon a time\n", stderr: "" });
  assertEquals([hive.calls.length, worker.count(WORKER_ROUTES.ready)], [hiveCalls, probes + 1]);
  using registry = await openRegistry(home.path);
  assertEquals(registry.list().map(({ id, node, state }) => [id, node, state]), [[
    "w-1",
    "stand-in",
    "idle",
  ]]);
});

Deno.test("an old row is probed, used and refreshed, and one whose worker is gone is replaced without a word", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const args = ["infer", ...ON_STAND_IN, "--prompt", "write"];
  await runKeeper(args, { home });
  {
    using registry = await openRegistry(home.path);
    registry.save({ ...registry.list()[0], lastHealthCheckUnix: 1_000_000 });
  }
  assertEquals((await runKeeper(args, { home })).stderr, "");
  {
    using registry = await openRegistry(home.path);
    const [row] = registry.list();
    assert(row.lastHealthCheckUnix > 1_000_000);
    await using closed = standInWorker();
    registry.save({ ...row, id: "w-gone", url: closed.url });
  }
  await worker[Symbol.asyncDispose]();
  await using next = standInWorker();
  hive.answers[on(HIVE_ROUTES.spawn)] = () =>
    Response.json(spawned(next, { worker_id: "w-2" }), { status: 202 });
  const { code, stdout, stderr } = await runKeeper(args, { home });
  assertEquals([code, stdout, stderr.split("\n")[0]], [
    0,
    "Once upon a time\n",
    "Starting worker w-2 on stand-in (cpu device 0, chosen automatically).",
  ]);
  using registry = await openRegistry(home.path);
  assertEquals(registry.list().map(({ id }) => id), ["w-2"]);
});

Deno.test("a worker that leaves between the probe and the request is replaced without a word", async () => {
  await using leaving = standInWorker();
  await using hive = standInHive(leaving);
  await using home = await testHome(hive);
  const args = ["infer", ...ON_STAND_IN, "--prompt", "write", "--quiet"];
  await runKeeper(args, { home });
  leaving.answers[on(WORKER_ROUTES.inference)] = () =>
    Response.json({ error: { code: "SHUTTING_DOWN", message: "leaving" } }, { status: 503 });
  await using next = standInWorker();
  hive.answers[on(HIVE_ROUTES.spawn)] = () =>
    Response.json(spawned(next, { worker_id: "w-2" }), { status: 202 });
  assertEquals(await runKeeper(args, { home }), { code: 0, stdout: "Once upon a time\n", stderr: "" });
});

Deno.test("the prompt can come from stdin, and goes raw when asked for or when there is no template", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const sent = async (args: string[], stdin?: string) => {
    const { code, stderr } = await runKeeper(["infer", ...ON_STAND_IN, ...args], { home, stdin });
    assertEquals(code, 0, stderr);
    const { prompt, messages } = worker.calls.findLast((call) => call.route === on(WORKER_ROUTES.inference))
      ?.body as Record<string, unknown>;
    return { prompt, messages };
  };
  assertEquals(await sent(["--prompt", "-", "--raw"], "two\nlines\n"), {
    prompt: "two\nlines",
    messages: undefined,
  });
  assertEquals(await sent(["--prompt", "hi", "--system", "be brief"]), {
    prompt: undefined,
    messages: [{ role: "system", content: "be brief" }, { role: "user", content: "hi" }],
  });
  worker.answers[on(WORKER_ROUTES.ready)] = () => Response.json(idle({ chat_template: false }));
  assertEquals(await sent(["--prompt", "hi"]), { prompt: "hi", messages: undefined });
});

Deno.test("--json gives the stream's events as lines, and an error as one of them", async () => {
  await using worker = standInWorker({ [on(WORKER_ROUTES.inference)]: () => answerOf(["Hi"]) });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const args = ["infer", ...ON_STAND_IN, "--prompt", "x", "--json", "--quiet"];
  const good = await runKeeper(args, { home });
  const lines = good.stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines[0], { token: "Hi", index: 0, id: 0 });
  assertEquals([lines.length, lines[1].done, lines[1].stop_reason, good.stderr], [2, true, "eos", ""]);

  worker.answers[on(WORKER_ROUTES.inference)] = () =>
    Response.json({
      error: { code: "INVALID_REQUEST", message: "The prompt has 600 tokens, the context 512." },
    }, {
      status: 400,
    });
  const bad = await runKeeper(args, { home });
  assertEquals(JSON.parse(bad.stdout).error.code, "INVALID_REQUEST");
  assertEquals([bad.code, bad.stderr], [1, "Error: The prompt has 600 tokens, the context 512.\n"]);
});

Deno.test("--timings says where the time went, on stderr, in one line", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const args = ["infer", ...ON_STAND_IN, "--prompt", "x", "--quiet", "--timings"];
  await runKeeper(args, { home });
  const { stdout, stderr } = await runKeeper(args, { home });
  assertEquals(stdout, "Once upon a time\n");
  const ms = "\\d+ ms";
  assertMatch(
    stderr,
    new RegExp(
      `^Timings: process start ${ms}, config and registry ${ms}, probe ${ms}, request to first token ${ms}, ` +
        `rest of the answer ${ms}, total ${ms}, 1000\\.0 tokens/s\n$`,
    ),
  );
});

Deno.test("bad flags are all named, nothing is started, and the exit code is 2", async () => {
  await using home = await testHome();
  const { code, stdout, stderr } = await runKeeper(
    ["infer", "--promt", "x", "--top-p", "2", "--model", "llama", "--json-schema", "none.json"],
    { home },
  );
  assertEquals([code, stdout], [2, ""]);
  assertEquals(stderr.split("\n").slice(0, 3), [
    "Error: Unknown flag --promt. Did you mean --prompt?",
    "  --prompt is required.",
    '  --top-p takes a number from 0 to 1, not "2".',
  ]);
  assertMatch(stderr, /--model: Model reference "llama" is not valid: expected hf:OWNER/);
  assertMatch(stderr, /See: rbee-keeper infer --help\n$/);
});

Deno.test("a JSON schema and a prompt that can't be read are usage errors, together", async () => {
  await using home = await testHome();
  const schema = join(home.path, "schema.json");
  const run = async (stdin: string) => {
    const { code, stderr } = await runKeeper(
      ["infer", "--node", "127.0.0.1:1", "--prompt", "-", "--json-schema", schema],
      { home, stdin },
    );
    return [code, ...stderr.split("\n").slice(0, 2)];
  };
  assertEquals(await run(""), [
    2,
    `Error: --json-schema ${schema}: there is no such file.`,
    "  --prompt -: stdin is empty.",
  ]);
  await Deno.writeTextFile(schema, "[1]");
  assertEquals((await run("x"))[1], `Error: --json-schema ${schema}: must hold a JSON object.`);
});

Deno.test("a reader that has had enough ends the command and the answer", async () => {
  await using worker = standInWorker({
    [on(WORKER_ROUTES.inference)]: () => answerOf(Array(20_000).fill("word after word ")),
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const keeper = startKeeper(["infer", ...ON_STAND_IN, "--prompt", "x", "--quiet"], {
    home,
    closeStdoutAfter: "word",
  });
  const { code, stderr } = await keeper.finished;
  assertEquals([code, stderr], [1, ""]);
});

Deno.test("a hive that answers nonsense is named, and nothing hangs", async () => {
  await using stranger = startStandIn(
    { [on(HIVE_ROUTES.v1Health)]: () => Response.json({ hello: "world" }) },
    {
      apiKey: HIVE_KEY,
    },
  );
  await using home = await testHome(stranger);
  const { code, stderr } = await runKeeper(["infer", ...ON_STAND_IN, "--prompt", "x"], { home });
  assertEquals(code, 1);
  assertMatch(stderr, /^Error: http:\/\/127\.0\.0\.1:\d+ gave a malformed answer to GET \/v1\/health: /);
});

Deno.test("who has left to make room is told, and how long a worker is to stay reaches its hive", async () => {
  await using worker = standInWorker();
  const left = { worker_id: "w-0", model_ref: "hf:a/b", frees_mb: 300, idle_seconds: 200 };
  await using hive = standInHive(worker, {
    [on(HIVE_ROUTES.spawn)]: () => Response.json(spawned(worker, { evicted: [left] }), { status: 202 }),
  });
  await using home = await testHome(hive);
  const args = ["infer", ...ON_STAND_IN, "--prompt", "write"];
  const { stderr } = await runKeeper([...args, "--pin", "--idle-timeout", "60"], { home });
  assertStringIncludes(stderr, "Worker w-0 (hf:a/b, last used 3 minutes ago) has left to make room.\n");
  const spawns = () =>
    hive.calls.filter((call) => call.route === on(HIVE_ROUTES.spawn)).map(({ body }) => body);
  assertEquals(spawns(), [{
    ...{ model_ref: "builtin:stories", backend: "auto", device: 0, slots: 4 },
    ...{ pin: true, idle_timeout: 60 },
  }]);
  // Known already; and then something that the hive has not heard yet.
  await runKeeper([...args, "--pin"], { home });
  assertEquals(spawns().length, 1);
  await runKeeper([...args, "--idle-timeout", "90"], { home });
  assertEquals(spawns().length, 2);
});

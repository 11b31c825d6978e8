/** A worker's native code tries what SECURITY.md says the kernel refuses it. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { WorkerClient } from "../protocol/worker_client.ts";
import { loadAddon } from "../worker/native/addon.ts";
import { ROOT } from "./helpers/daemons.ts";
import type { ForbiddenReport, ForbiddenTargets } from "./helpers/forbidden_worker.ts";
import { STORIES } from "./helpers/test_models.ts";

const EPERM = 1;
const EACCES = 13;
const KEY = "key-of-the-worker";

interface ForbiddenWorker extends AsyncDisposable {
  url: string;
  client: WorkerClient;
  /** Lets it try. */
  attempt(targets: ForbiddenTargets): Promise<ForbiddenReport>;
  /** Asks it by SIGTERM to leave. */
  leave(): Promise<Deno.CommandStatus>;
}

async function startForbiddenWorker(args: readonly string[], home: string): Promise<ForbiddenWorker> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-q", "-A", "--config", join(ROOT, "deno.json")],
      ...[join(ROOT, "tests/helpers/forbidden_worker.ts"), "--model", STORIES, "--port", "0", ...args],
    ],
    env: { RBEE_HOME: home, RBEE_WORKER_API_KEY: KEY, RBEE_LOG_FORMAT: "json", RBEE_TEST_FORBIDDEN: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  const output = lines(child.stdout);
  const log = lines(child.stderr);
  let url: string | undefined;
  for (;;) {
    const { value, done } = await log.next();
    if (done) throw new Error("The worker ended before its model was loaded.");
    const line = JSON.parse(value);
    if (line.message === "listening") url = line.url;
    if (line.message === "model loaded") break;
  }
  const rest = Array.fromAsync(log);
  let over = false;
  const status = child.status.finally(() => over = true);
  return {
    url: url!,
    client: new WorkerClient({ baseUrl: url!, apiKey: KEY }),
    async attempt(targets) {
      await input.write(new TextEncoder().encode(JSON.stringify(targets)));
      const { value } = await output.next();
      return JSON.parse(value!);
    },
    leave() {
      child.kill("SIGTERM");
      return status;
    },
    async [Symbol.asyncDispose]() {
      if (!over) child.kill("SIGKILL");
      await status;
      await input.close().catch(() => {});
      await output.return();
      await rest;
    },
  };
}

async function* lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  let text = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end; (end = text.indexOf("\n")) >= 0;) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

/** A folder with a secret in it, and a program that listens. */
async function surroundings() {
  const folder = await Deno.makeTempDir({ prefix: "rbee-sandbox-" });
  const secret = join(folder, "secret");
  await Deno.writeTextFile(secret, "secret");
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const targets: ForbiddenTargets = {
    program: "/no/such/program",
    newFile: join(folder, "made"),
    file: secret,
    port: (listener.addr as Deno.NetAddr).port,
    process: Deno.pid,
  };
  return {
    folder,
    targets,
    async [Symbol.asyncDispose]() {
      listener.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

const isLinux = Deno.build.os === "linux";
const support = isLinux ? loadAddon().sandboxSupport() : undefined;
const canConfine = support !== undefined && support.landlockAbi > 0 && support.seccomp;

Deno.test({
  name: "native code of a loaded worker can run nothing, write nothing, and open no file or socket elsewhere",
  ignore: !canConfine,
  async fn() {
    await using around = await surroundings();
    await using worker = await startForbiddenWorker([], around.folder);
    const before = await worker.client.ready();
    assert(before.ready);
    assertEquals([before.sandbox?.state, before.sandbox?.problems], ["on", []]);
    const { threads, deno } = await worker.attempt({ ...around.targets, program: "/bin/true" });
    const allowed = threads.flatMap(({ name, errors }) =>
      Object.entries(errors).filter(([, error]) => error !== EPERM && error !== EACCES)
        .map(([what, error]) => `${name}: ${what}: ${error}`)
    );
    assertEquals(allowed, []);
    const names = threads.map(({ name }) => name);
    for (const name of ["deno", "rbee-engine", "tokio-runtime-w"]) assert(names.includes(name), `${names}`);
    assertEquals(Object.values(threads[0].errors).length, 10);
    assertEquals(Object.entries(deno).filter(([, result]) => result !== "PermissionDenied"), []);
    assertEquals([...Deno.readDirSync(around.folder)].some(({ name }) => name === "made"), false);
    // It still does what it is there for: also what it imports only now.
    for (const path of ["/metrics", "/openapi.json", "/v1/inference"]) {
      const response = await fetch(new URL(path, worker.url), {
        headers: { "Authorization": `Bearer ${KEY}`, "Content-Type": "application/json" },
        ...path === "/v1/inference"
          ? { method: "POST", body: JSON.stringify({ prompt: "Once", max_tokens: 8, stream: false }) }
          : {},
      });
      assertEquals([path, response.status], [path, 200]);
      await response.body?.cancel();
    }
    assertEquals((await worker.leave()).code, 0);
  },
});

Deno.test({
  name: "the same attempts succeed without the sandbox",
  ignore: !isLinux,
  async fn() {
    await using around = await surroundings();
    await using worker = await startForbiddenWorker(["--sandbox", "off"], around.folder);
    const status = await worker.client.ready();
    assert(status.ready);
    assertEquals(status.sandbox?.state, "off");
    const { threads, deno } = await worker.attempt(around.targets);
    const refused = threads.flatMap(({ name, errors }) =>
      Object.entries(errors).filter(([, error]) => error === EPERM || error === EACCES)
        .map(([what]) => `${name}: ${what}`)
    );
    assertEquals(refused, []);
    assertEquals(Object.values(deno), ["ok", "ok", "ok", "ok", "ok"]);
  },
});

import { assert, assertEquals } from "@std/assert";
import { parseWorkerArgs } from "./options.ts";

const noEnv = { get: () => undefined };

Deno.test("a model is enough, the rest has defaults", () => {
  const invocation = parseWorkerArgs(["--model", "/m/x.gguf"], noEnv);
  assert(invocation.kind === "run");
  assertEquals(invocation.options, {
    model: "/m/x.gguf",
    modelRef: "file:/m/x.gguf",
    backend: "cpu",
    device: 0,
    host: "127.0.0.1",
    ports: [8001, 8999],
    advertise: "127.0.0.1",
    workerId: "worker",
    slots: 4,
    orphanTimeoutSeconds: 0,
    ctxSize: 0,
    threads: 0,
    cacheType: "auto",
    flashAttention: "auto",
    kvUnified: false,
    draftModel: undefined,
    embeddings: false,
    pooling: "auto",
    chatTemplate: undefined,
    sandbox: "auto",
    apiKey: undefined,
    callback: undefined,
  });
});

Deno.test("the secrets come from the environment", () => {
  const env = new Map([["RBEE_WORKER_API_KEY", "its-own-key"], ["RBEE_CALLBACK_TOKEN", "once"]]);
  const args = ["--model", "x", "--callback-url", "http://127.0.0.1:9200/v1/workers/ready", "--port", "7001"];
  const invocation = parseWorkerArgs(args, env);
  assert(invocation.kind === "run");
  assertEquals(invocation.options.apiKey, "its-own-key");
  assertEquals(invocation.options.callback, { url: "http://127.0.0.1:9200/v1/workers/ready", token: "once" });
  assertEquals(invocation.options.ports, [7001, 7001]);
});

Deno.test("every mistake is named at once", () => {
  const invocation = parseWorkerArgs(
    [
      "--slots",
      "0",
      "--backend",
      "tpu",
      "--port",
      "9-8",
      "--modell",
      "x",
      "--callback-url",
      "nowhere",
      "stray",
    ],
    noEnv,
  );
  assert(invocation.kind === "usage");
  const all = invocation.problems.join("\n");
  for (
    const part of [
      "--slots",
      "--backend",
      "--port",
      "--modell",
      "--model",
      "--callback-url",
      "RBEE_CALLBACK_TOKEN",
      "stray",
    ]
  ) {
    assert(all.includes(part), `${part} is not named in:\n${all}`);
  }
});

Deno.test("help names every flag", () => {
  const invocation = parseWorkerArgs(["--help"], noEnv);
  assert(invocation.kind === "help");
  for (const flag of ["--model", "--port", "--ctx-size", "--detect"]) assert(invocation.text.includes(flag));
});

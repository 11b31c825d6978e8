import { assertEquals, assertThrows } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { workerArgs, workerCommand, workerEnvironment } from "./command.ts";
import { localHost, urlHost } from "../../daemon/hosts.ts";

Deno.test("a worker gets what it needs to run and no secret", () => {
  const given = {
    PATH: "/bin",
    LD_LIBRARY_PATH: "/cuda",
    CUDA_VISIBLE_DEVICES: "0",
    npm_config_registry: "http://registry.example",
    DENO_DIR: "/cache",
    RBEE_LOG_FORMAT: "json",
    HF_TOKEN: "secret",
    RBEE_API_KEY: "secret",
    RBEE_HOME: "/home",
    DENO_AUTH_TOKENS: "secret",
    "npm_config_//registry.example/:_authToken": "secret",
    AWS_SECRET_ACCESS_KEY: "secret",
    DATABASE_URL: "postgres://user:secret@host",
  };
  assertEquals(Object.keys(workerEnvironment(given)), [
    "PATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "npm_config_registry",
    "DENO_DIR",
    "RBEE_LOG_FORMAT",
  ]);
});

Deno.test("the worker beside this hive is started, unless the environment names another", () => {
  const own = workerCommand(new Map());
  assertEquals(own.at(-1)?.endsWith("/worker/main.ts"), true);
  assertEquals(own.includes("-P=worker"), true);
  assertEquals(workerCommand(new Map([["RBEE_WORKER_COMMAND", '["a", "b"]']])), ["a", "b"]);
  for (const bad of ["a b", "[]", '[""]', '{"a":1}']) {
    assertThrows(() => workerCommand(new Map([["RBEE_WORKER_COMMAND", bad]])), RbeeError, "JSON list");
  }
});

Deno.test("the flags say what, where and whom to tell", () => {
  const plan = {
    ...{ modelRef: "builtin:stories", modelPath: "/m.gguf", backend: "cuda" as const },
    ...{ device: 1, slots: 2, ctxSize: 64 },
  };
  const place = { host: "h", advertise: "a", ports: [8001, 8999] as const, callbackUrl: "http://c/x" };
  assertEquals(
    workerArgs("id", { plan, place, healthIntervalSeconds: 200, sandbox: "auto" }).join(" "),
    "--model /m.gguf --model-ref builtin:stories --backend cuda --device 1 --host h --port 8001-8999 " +
      "--advertise a --worker-id id --callback-url http://c/x --orphan-timeout 800 --slots 2 --ctx-size 64",
  );
  const anyPort = workerArgs("id", {
    ...{ plan, place: { ...place, ports: [0, 0] as const } },
    ...{ healthIntervalSeconds: 30, sandbox: "off" as const },
  });
  assertEquals([anyPort.includes("0"), anyPort.includes("600"), anyPort.at(-1)], [true, true, "off"]);
});

Deno.test("an address for everybody is reached by loopback", () => {
  assertEquals(["0.0.0.0", "::", "10.0.0.1", "::1", "name"].map(localHost), [
    "127.0.0.1",
    "[::1]",
    "10.0.0.1",
    "[::1]",
    "name",
  ]);
  assertEquals(urlHost("fe80::1"), "[fe80::1]");
});

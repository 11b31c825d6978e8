import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import { loadConfig, type LoadConfigOptions } from "./config.ts";
import { type Config, ENVIRONMENT_KEYS } from "./config_schema.ts";

/** Loads `yaml` as the file of a home of its own. */
async function load(
  yaml: string | undefined,
  options: { env?: Record<string, string>; flags?: LoadConfigOptions["flags"] } = {},
): Promise<{ config: Config; home: string; path: string }> {
  const home = await Deno.makeTempDir();
  try {
    if (yaml !== undefined) await Deno.writeTextFile(`${home}/config.yaml`, yaml);
    const env: Record<string, string> = { RBEE_HOME: home, ...options.env };
    return await loadConfig({ env: { get: (name) => env[name] }, flags: options.flags });
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

/** The lines of the error that loading gives; each names where the value stands, its key and what is wrong. */
async function complaints(...args: Parameters<typeof load>): Promise<string[]> {
  const error = await assertRejects(() => load(...args), RbeeError);
  assertEquals(error.code, "INVALID_REQUEST");
  return error.message.split("\n").map((line) => line.replace(/^\S*\/config\.yaml/, "FILE"));
}

Deno.test("no file, an empty one and one of comments give the defaults", async () => {
  for (const yaml of [undefined, "", "# nothing\n", "{}", "---\n"]) {
    const { config, home, path } = await load(yaml);
    assertEquals(config.hive.listen, { hostname: "127.0.0.1", port: 9200 });
    assertEquals(config.hive.worker_ports, [8001, 8999]);
    assertEquals([config.hive.idle_timeout, config.hive.load_timeout, config.hive.callback_timeout], [
      300,
      300,
      30,
    ]);
    assertEquals(config.hub.endpoint, "https://huggingface.co");
    assertEquals(config.log, { level: "info", format: "auto" });
    assertEquals(config.nodes, {});
    assertEquals(path, `${home}/config.yaml`);
  }
});

Deno.test("flag before environment before file before default", async () => {
  const yaml = "hive: { listen: '127.0.0.1:1', advertise: file, models_dir: /file }";
  const env = { RBEE_HIVE_LISTEN: "127.0.0.1:2", RBEE_HIVE_ADVERTISE: "env" };
  const flags = { "hive.listen": "127.0.0.1:3", "hive.advertise": undefined };
  const { hive } = (await load(yaml, { env, flags })).config;
  assertEquals(hive.listen.port, 3);
  assertEquals(hive.advertise, "env");
  assertEquals(hive.models_dir, "/file");
  assertEquals(hive.idle_timeout, 300);
});

Deno.test("every environment variable sets its key, as text that is read like the file's value", async () => {
  const values: Record<string, [text: string, key: string, value: unknown]> = {
    RBEE_API_KEY: ["some-key-1", "api_key", "some-key-1"],
    RBEE_API_KEY_FILE: ["/k", "api_key_file", "/k"],
    HF_ENDPOINT: ["http://127.0.0.1:1", "hub.endpoint", "http://127.0.0.1:1"],
    RBEE_HUB_MAX_BANDWIDTH: ["2.5", "hub.max_bandwidth", 2.5],
    RBEE_HIVE_LISTEN: ["[::1]:0", "hive.listen", { hostname: "::1", port: 0 }],
    RBEE_HIVE_ADVERTISE: ["gpu-box", "hive.advertise", "gpu-box"],
    RBEE_HIVE_MODELS_DIR: ["/m", "hive.models_dir", "/m"],
    RBEE_HIVE_WORKER_PORTS: ["9001-9010", "hive.worker_ports", [9001, 9010]],
    RBEE_HIVE_IDLE_TIMEOUT: ["0", "hive.idle_timeout", 0],
    RBEE_HIVE_CALLBACK_TIMEOUT: ["1.5", "hive.callback_timeout", 1.5],
    RBEE_HIVE_LOAD_TIMEOUT: ["7", "hive.load_timeout", 7],
    RBEE_HIVE_HEALTH_INTERVAL: ["2", "hive.health_interval", 2],
    RBEE_HIVE_RESERVE_MB: ["2048", "hive.reserve_mb", 2048],
    RBEE_HIVE_WORKER_MEMORY_MARGIN_MB: ["512", "hive.worker_memory_margin_mb", 512],
    RBEE_HIVE_NAME: ["mac", "hive.name", "mac"],
    RBEE_HIVE_QUEEN: ["http://q:8080", "hive.queen", "http://q:8080"],
    RBEE_HIVE_QUEEN_KEY_FILE: ["/k", "hive.queen_key_file", "/k"],
    RBEE_QUEEN_LISTEN: ["[::1]:0", "queen.listen", { hostname: "::1", port: 0 }],
    RBEE_QUEEN_ADVERTISE: ["q", "queen.advertise", "q"],
    RBEE_QUEEN_QUEUE_LIMIT: ["7", "queen.queue_limit", 7],
    RBEE_QUEEN_CLIENT_BODY_MB: ["2.5", "queen.client_body_mb", 2.5],
    RBEE_QUEEN: ["http://q:8080", "keeper.queen", "http://q:8080"],
    RBEE_QUEEN_KEY_FILE: ["/k", "keeper.queen_key_file", "/k"],
    RBEE_MODEL: ["hf:a/b", "keeper.model", "hf:a/b"],
    RBEE_NODE: ["mac", "keeper.node", "mac"],
    RBEE_LOG_LEVEL: ["debug", "log.level", "debug"],
    RBEE_LOG_FORMAT: ["json", "log.format", "json"],
  };
  assertEquals(
    Object.keys(values).sort(),
    Object.keys(ENVIRONMENT_KEYS).sort(),
    "a variable is not tested here",
  );
  for (const [name, [text, key, value]] of Object.entries(values)) {
    const { config } = await load("log: {}", { env: { [name]: text } });
    const at = key.split(".").reduce<unknown>((on, part) => (on as Record<string, unknown>)[part], config);
    assertEquals(at, value, name);
    assertEquals(
      (await load("", { env: { [name]: "" } })).config,
      (await load("")).config,
      `${name} set to nothing`,
    );
  }
});

Deno.test("a key file of the environment goes before a key of the file; a key before a key file", async () => {
  const { config } = await load("api_key: in-the-file", { env: { RBEE_API_KEY_FILE: "/k" } });
  assertEquals([config.api_key, config.api_key_file], [undefined, "/k"]);
  const both = await load("", { env: { RBEE_API_KEY_FILE: "/k", RBEE_API_KEY: "from-env-1" } });
  assertEquals(both.config.api_key, "from-env-1");
});

Deno.test("what is preloaded is a reference or a spawn request, pinned unless it says otherwise", async () => {
  const yaml = `hive:
  preload:
    - builtin:stories
    - { model_ref: "hf:acme/bee", slots: 2, pin: false, idle_timeout: 60 }`;
  const defaults = { backend: "auto" as const, device: 0, slots: 4 };
  assertEquals((await load(yaml)).config.hive.preload, [
    { ...defaults, model_ref: "builtin:stories", pin: true },
    { ...defaults, model_ref: "hf:acme/bee", slots: 2, pin: false, idle_timeout: 60 },
  ]);
  const [line] = await complaints(
    "hive: { preload: [builtin:stories, { model_ref: 'hf:acme/bee', slot: 2 }] }",
  );
  assertEquals(line, "FILE: hive.preload.1.slot: is not a known key");
  const [other] = await complaints("hive: { preload: [7] }");
  assertStringIncludes(other, "FILE: hive.preload.0: expected a model reference, or {model_ref, backend,");
});

Deno.test("RBEE_CONFIG points to another file; home stays where it is", async () => {
  const other = await Deno.makeTempFile();
  await Deno.writeTextFile(other, "log: { level: warn }");
  const { config, path } = await load("log: { level: debug }", { env: { RBEE_CONFIG: other } });
  assertEquals(config.log.level, "warn");
  assertEquals(path, other);
  await Deno.remove(other);
});

Deno.test("an unknown key is named by its full path, with the one that was probably meant, if any", async () => {
  const cases: Record<string, string> = {
    "api_kye: x": "FILE: api_kye: is not a known key; did you mean api_key?",
    "hive: { lisen: x }": "FILE: hive.lisen: is not a known key; did you mean hive.listen?",
    "listen: x": "FILE: listen: is not a known key; did you mean hive.listen?",
    "hub: { level: x }": "FILE: hub.level: is not a known key; did you mean log.level?",
    "nodes: { gpu: { url: 'http://x:1', shh: y } }":
      "FILE: nodes.gpu.shh: is not a known key; did you mean nodes.gpu.ssh?",
    "zzz: 1": "FILE: zzz: is not a known key",
    "hub: { zzz: 1 }": "FILE: hub.zzz: is not a known key",
    "log: { zzz: 1 }": "FILE: log.zzz: is not a known key",
    "queen: { zzz: 1 }": "FILE: queen.zzz: is not a known key",
    "hive: { something_else: 1 }": "FILE: hive.something_else: is not a known key",
    "__proto__: { log: { level: debug } }": "FILE: __proto__: is not a known key",
    "constructor: 1": "FILE: constructor: is not a known key",
    "1: 2": "FILE: 1: is not a known key",
  };
  for (const [yaml, line] of Object.entries(cases)) assertEquals(await complaints(yaml), [line]);
  const [long] = await complaints(`${"hive".repeat(100)}: 1`);
  assertStringIncludes(long, "is not a known key");
});

Deno.test("a malformed value is named by its full path with what was expected", async () => {
  const cases: [yaml: string, key: string, expected: string][] = [
    ["hive: { listen: 9200 }", "hive.listen", "expected HOST:PORT"],
    ["hive: { listen: localhost }", "hive.listen", "expected HOST:PORT"],
    ["hive: { listen: ':9200' }", "hive.listen", "expected HOST:PORT"],
    ["hive: { listen: 'a:b:1' }", "hive.listen", "expected HOST:PORT"],
    ["hive: { listen: '1.2.3.4:65536' }", "hive.listen", "expected HOST:PORT"],
    ["hive: { worker_ports: abc }", "hive.worker_ports", "expected FIRST-LAST"],
    ["hive: { worker_ports: 8001 }", "hive.worker_ports", "expected FIRST-LAST"],
    ["hive: { worker_ports: [1, 2, 3] }", "hive.worker_ports", "expected FIRST-LAST"],
    ["hive: { worker_ports: 9000-8000 }", "hive.worker_ports", "the first port must not be above the last"],
    [
      "hive: { worker_ports: [9000, 8000] }",
      "hive.worker_ports",
      "the first port must not be above the last",
    ],
    ["hive: { worker_ports: 8000-65536 }", "hive.worker_ports", "ports end at 65535"],
    ["hive: { worker_ports: 99999-70000 }", "hive.worker_ports", "ports end at 65535"],
    ["hive: { idle_timeout: soon }", "hive.idle_timeout", "expected a number of seconds"],
    ["hive: { idle_timeout: -1 }", "hive.idle_timeout", ">=0"],
    ["hive: { idle_timeout: .nan }", "hive.idle_timeout", "expected a number of seconds"],
    ["hive: { load_timeout: .inf }", "hive.load_timeout", "expected a number of seconds"],
    ["hive: { load_timeout: true }", "hive.load_timeout", "expected a number of seconds"],
    ["hive: { backends: [gpu] }", "hive.backends.0", '"cpu"|"cuda"|"metal"|"vulkan"'],
    ["hive: { backends: [] }", "hive.backends", ">=1"],
    ["hive: { backends: cpu }", "hive.backends", "expected array"],
    ["hive: [1]", "hive", "expected object, received array"],
    ["hive:", "hive", "expected object, received null"],
    ["hub: { max_bandwidth: true }", "hub.max_bandwidth", "expected a number of MB/s"],
    ["hub: { max_bandwidth: fast }", "hub.max_bandwidth", "expected a number of MB/s"],
    ["hub: { max_bandwidth: 0 }", "hub.max_bandwidth", ">0"],
    ["hub: { endpoint: 'ftp://x' }", "hub.endpoint", "expected an http(s) URL"],
    ["hub: { endpoint: huggingface.co }", "hub.endpoint", "expected an http(s) URL"],
    ["log: { level: loud }", "log.level", '"error"|"warn"|"info"|"debug"'],
    ["log: { format: 3 }", "log.format", '"auto"|"json"|"text"'],
    ["api_key: 12345678", "api_key", "expected string, received number"],
    ["nodes: { gpu: 5 }", "nodes.gpu", "expected object"],
    ["nodes: { gpu: {} }", "nodes.gpu.url", "expected http://HOST:PORT"],
    ["nodes: { gpu: { url: 'host:9200' } }", "nodes.gpu.url", "expected http://HOST:PORT"],
    ["nodes: { 'bad name!': { url: 'http://x:1' } }", "nodes.bad name!", "not a valid node name"],
  ];
  for (const [yaml, key, expected] of cases) {
    const lines = await complaints(yaml);
    assertEquals(lines.length, 1, yaml);
    assert(lines[0].startsWith(`FILE: ${key}: `), lines[0]);
    assertStringIncludes(lines[0], expected);
  }
});

Deno.test("all mistakes are named at once, each with the place its value came from", async () => {
  const lines = await complaints("hive: { idle_timeout: soon }\nlogg: {}", {
    env: { RBEE_HIVE_LISTEN: "nonsense" },
    flags: { "log.level": "loud" },
  });
  assertEquals(lines.map((line) => line.split(": ").slice(0, 2)).sort(), [
    ["FILE", "hive.idle_timeout"],
    ["FILE", "logg"],
    ["RBEE_HIVE_LISTEN", "hive.listen"],
    ["the command line", "log.level"],
  ]);
});

Deno.test("a value that the environment repairs is no mistake; one in a malformed section is named by the file", async () => {
  const env = { RBEE_HIVE_LISTEN: "127.0.0.1:0" };
  assertEquals((await load("hive: { listen: nonsense }", { env })).config.hive.listen.port, 0);
  assertEquals((await load("hive:", { env })).config.hive.listen.port, 0);
  assertEquals(await complaints("hive: 5", { env }), [
    "FILE: hive: Invalid input: expected object, received number",
  ]);
});

Deno.test("broken YAML is named with line and column, without a word of what the file holds", async () => {
  for (
    const yaml of [
      'api_key: "secret-unclosed',
      "api_key: secret-one\n  foo: 1",
      "api_key: secret-one\napi_key: secret-two",
      "api_key: secret-one: secret-two",
      "api_key: !!binary secret-one",
      "api_key: [secret-one",
      "api_key: {secret-one: }}",
      "log: {}\n---\napi_key: secret-one",
    ]
  ) {
    const error = await assertRejects(() => load(yaml), RbeeError, "config.yaml is no valid YAML");
    assertStringIncludes(error.message, "line ");
    assertEquals(error.message.split("\n").length, 1, error.message);
    assert(!Deno.inspect(error).includes("secret"), Deno.inspect(error));
  }
});

Deno.test("a file that is no mapping is refused as what it is", async () => {
  for (
    const [yaml, what] of [["just text", "string"], ["5", "number"], ["- a", "list"], ["true", "boolean"]]
  ) {
    assertStringIncludes((await complaints(yaml))[0], `must hold keys and values, not a ${what}.`);
  }
});

Deno.test("a wrong key value is never shown", async () => {
  for (const yaml of ["api_key: [secret-one]", "api_key: { secret-one: 1 }"]) {
    const error = await assertRejects(() => load(yaml), RbeeError);
    assert(!Deno.inspect(error).includes("secret"), Deno.inspect(error));
  }
});

Deno.test("a huge file, a folder and an unreadable file are refused by name", async () => {
  assertStringIncludes((await complaints(`# ${"x".repeat(1024 * 1024)}`))[0], "larger than 1048576 bytes");
  const folder = await Deno.makeTempDir();
  const [line] = await complaints("", { env: { RBEE_CONFIG: folder } });
  assertStringIncludes(line, `Cannot read ${folder}`);
  await Deno.remove(folder);
});

Deno.test("a small file can't be made to grow: aliases are shared, not copied", async () => {
  const levels = Array.from({ length: 30 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}, *a${i}]`);
  const started = performance.now();
  const lines = await complaints(`a0: &a0 [x]\n${levels.join("\n")}`);
  assertEquals(lines.length, 31);
  assert(performance.now() - started < 2000, `${performance.now() - started} ms`);
});

Deno.test("nothing is created by reading", async () => {
  const parent = await Deno.makeTempDir();
  const home = `${parent}/none`;
  await loadConfig({ env: { get: (name) => name === "RBEE_HOME" ? home : undefined } });
  assertEquals(Array.from(Deno.readDirSync(parent)), []);
  await Deno.remove(parent);
});

/** The documents: every command in them is typed, every setting read, every list held to the truth. */
import { assert, assertEquals } from "@std/assert";
import { parse as parseYaml } from "@std/yaml";
import { basename, join } from "@std/path";
import { ConfigSchema } from "../home/config_schema.ts";
import { ERROR_STATUS } from "../protocol/errors.ts";
import { apiReference } from "../tools/api_reference.ts";
import { runCommand } from "../tools/command.ts";
import { corePath, runBare, type TestArchive, testArchive } from "./helpers/archive.ts";
import { ROOT } from "./helpers/daemons.ts";
import { freePort } from "./helpers/free_port.ts";
import { type Hub, startHub } from "./helpers/hub.ts";
import { canServeSsh, startSshd } from "./helpers/sshd.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";

const TINY_LLAMA = "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF";
/** Run by hand or where systemd runs: what they do to a machine is no test's business. */
const NEEDS_SYSTEMD = "sh systemd";

/** Documents call the interfaces with it. */
const hasCurl = (await runCommand(["curl", "--version"])).code === 0;

/** A fenced block. */
interface Block {
  /** What stands behind the fence. */
  info: string;
  text: string;
}

async function document(name: string): Promise<string> {
  return await Deno.readTextFile(join(ROOT, "docs", name));
}

function blocks(markdown: string): Block[] {
  return [...markdown.matchAll(/^```([^\n]*)\n([\s\S]*?)^```$/gm)].map(([, info, text]) => ({ info, text }));
}

/** All commands of a document as one script, so that what one sets the next ones see. `daemon` blocks run beside it. */
function script(markdown: string, replaced: readonly [from: string, to: string][]): string {
  const parts = blocks(markdown).flatMap(({ info, text }) => {
    if (info === "sh") return [text];
    if (info !== "sh daemon") return [];
    const port = /:?(\d{4,5})$/.exec(text.trim())![1];
    return [
      `${text.trim()} > daemon.log 2>&1 & daemons="$daemons $!"`,
      `curl -s -o /dev/null --retry 60 --retry-connrefused --retry-delay 1 http://127.0.0.1:${port}/health || cat daemon.log`,
    ];
  });
  const whole = [
    `daemons=""; trap 'test -z "$daemons" || kill $daemons; ! test -x ~/.local/bin/rbee-keeper || rbee-keeper daemon stop --quiet' EXIT`,
    "set -eu",
    ...parts,
  ].join("\n");
  return replaced.reduce((text, [from, to]) => text.replaceAll(from, to), whole);
}

let made: Promise<TestArchive> | undefined;

/** The one that all readers unpack. */
function sharedArchive(): Promise<TestArchive> {
  return made ??= testArchive({ packed: true });
}

Deno.test.afterAll(async () => await (await made)?.[Symbol.asyncDispose]());

/** Types a document's commands as a person with a fresh home, the archive in it, and few programs. */
async function type(
  name: string,
  options: { hub?: Hub; path?: string[]; replaced?: [string, string][]; installed?: boolean } = {},
): Promise<void> {
  const archive = await sharedArchive();
  const at = await Deno.makeTempDir({ prefix: "rbee-reader-" });
  try {
    await Deno.copyFile(archive.packed!, join(at, basename(archive.packed!)));
    const hive = freePort();
    const env = {
      PATH: [...options.path ?? [], await corePath(at)].join(":"),
      HOME: at,
      RBEE_HIVE_LISTEN: `127.0.0.1:${hive}`,
      RBEE_HIVE_WORKER_PORTS: "0-0",
      ...options.hub === undefined ? {} : { HF_ENDPOINT: options.hub.url },
    };
    const before = options.installed
      ? "tar -xzf rbee-*.tar.gz; rbee-*/install.sh --quiet; PATH=$HOME/.local/bin:$PATH; rbee-keeper daemon start --quiet\n"
      : "";
    if (options.installed) await givenModel(at);
    const text = script(await document(name), [
      ["127.0.0.1:9200", `127.0.0.1:${hive}`],
      ...options.replaced ?? [],
    ]);
    const said = await runBare("/bin/sh", ["-c", `cd; ${before}${text}`], env);
    assertEquals(said.code, 0, `${said.stderr}\n${said.stdout}`);
  } finally {
    await Deno.remove(at, { recursive: true });
  }
}

/** As Ollama would have left one. */
async function givenModel(home: string): Promise<void> {
  const folder = join(home, ".ollama/models/blobs");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.copyFile(STORIES, join(folder, "sha256-6150c76acf807cea"));
}

async function tinyLlamaHub(): Promise<Hub> {
  return await startHub({
    repos: { [TINY_LLAMA]: { files: { "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf": { path: STORIES } } } },
  });
}

Deno.test({
  name: "docs/getting_started.md: from the archive to three machines with one address",
  ignore: !canServeSsh || !hasCurl,
  async fn() {
    await using hub = await tinyLlamaHub();
    await using macHome = await tempHome();
    await using gpuHome = await tempHome();
    const env = { RBEE_HIVE_WORKER_PORTS: "0-0", PATH: Deno.env.get("PATH")! };
    await using mac = await startSshd({ ...macHome.env, ...env });
    await using gpu = await startSshd({ ...gpuHome.env, ...env, RBEE_HIVE_LISTEN: "127.0.0.1:0" });
    const queen = freePort();
    const macUrl = `http://127.0.0.1:${freePort()}`;
    const ssh = await sshForBoth([mac, gpu]);
    try {
      await type("getting_started.md", {
        hub,
        path: [ssh],
        replaced: [
          // What it starts would outlive the test.
          ["queen-rbee --listen", "queen-rbee --stop-hives --listen"],
          ["0.0.0.0:8080", `127.0.0.1:${queen}`],
          ["127.0.0.1:8080", `127.0.0.1:${queen}`],
          ["--ssh mac.local", `--ssh ${mac.destination} --url ${macUrl}`],
          ["--ssh gpu.local", `--ssh ${gpu.destination}`],
        ],
      });
    } finally {
      await Deno.remove(ssh, { recursive: true });
    }
  },
});

/** A folder with one `ssh` that knows both machines, by their ports. */
async function sshForBoth(machines: { destination: string; bin: string }[]): Promise<string> {
  const folder = await Deno.makeTempDir();
  const cases = machines.map(({ destination, bin }) =>
    `*" -p ${/\d+$/.exec(destination)![0]} "*) exec ${bin}/ssh "$@" ;;`
  );
  await Deno.writeTextFile(
    join(folder, "ssh"),
    `#!/bin/sh\ncase " $* " in\n${cases.join("\n")}\nesac\nexit 255\n`,
    {
      mode: 0o755,
    },
  );
  return folder;
}

Deno.test({
  name: "docs/operations.md: services by hand, keys, backups, metrics, logs, upgrade, removal",
  ignore: !hasCurl,
  fn: () =>
    type("operations.md", { installed: true, replaced: [["127.0.0.1:8080", `127.0.0.1:${freePort()}`]] }),
});

Deno.test({
  name: "docs/migration.md: models and programs of Ollama and llama-server",
  ignore: !hasCurl,
  async fn() {
    await using hub = await tinyLlamaHub();
    const port = freePort();
    await type("migration.md", { installed: true, hub, replaced: [["8001", String(port)]] });
  },
});

Deno.test("docs/troubleshooting.md: the commands answer, and every code of the catalogue is told", async () => {
  const markdown = await document("troubleshooting.md");
  const told = [...markdown.matchAll(/^\| `([A-Z_]+)`/gm)].map(([, code]) => code);
  assertEquals(told.toSorted(), Object.keys(ERROR_STATUS).toSorted());
  await using hub = await tinyLlamaHub();
  await type("troubleshooting.md", { installed: true, hub });
});

Deno.test("commands for systemd are at least a shell's, and settings are what config.yaml takes", async () => {
  for await (const { name } of Deno.readDir(join(ROOT, "docs"))) {
    if (!name.endsWith(".md")) continue;
    for (const { info, text } of blocks(await document(name))) {
      if (info === NEEDS_SYSTEMD) {
        const { code, output } = await runCommand(["sh", "-n", "-c", text]);
        assertEquals(code, 0, `${name}: ${output}`);
      }
      if (info !== "yaml" || text.startsWith("scrape_configs")) continue;
      const result = ConfigSchema.safeParse(parseYaml(text));
      assert(result.success, `${name}: ${JSON.stringify(result.error?.issues)}\n${text}`);
    }
  }
});

Deno.test("docs/api.md is what the daemons say of themselves", async () => {
  const path = await Deno.makeTempFile({ suffix: ".md" });
  try {
    await Deno.writeTextFile(path, apiReference());
    const { code } = await runCommand([
      Deno.execPath(),
      "fmt",
      "-q",
      "--config",
      join(ROOT, "deno.json"),
      path,
    ]);
    assertEquals(code, 0);
    const made = await Deno.readTextFile(path);
    assert(made === await document("api.md"), "Run: deno run -A tools/api_reference.ts");
  } finally {
    await Deno.remove(path);
  }
});

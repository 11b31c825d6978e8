/** `doctor` on machines that are well and on some that are not. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { runKeeper, type TestHome } from "../keeper/testing/keeper_process.ts";
import { startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { startHub } from "./helpers/hub.ts";
import { type TempHome, tempHome } from "./helpers/temp_home.ts";
import { freePort } from "./helpers/free_port.ts";

interface Finding {
  check: string;
  level: string;
  what: string;
  remedy?: string;
}

async function examine(home: TempHome, env: Record<string, string> = {}) {
  const testHome: TestHome = { path: home.rbeeHome, [Symbol.asyncDispose]: () => Promise.resolve() };
  const result = await runKeeper(["doctor", "--json"], { home: testHome, env: { ...home.env, ...env } });
  const { findings, problems, warnings } = JSON.parse(result.stdout);
  return { code: result.code, findings: findings as Finding[], problems, warnings, testHome };
}

Deno.test("on a fresh machine all is well, and nothing is made or started", async () => {
  await using hub = await startHub({ repos: {} });
  await using home = await tempHome({ hfEndpoint: hub.url });
  const { code, findings, problems, testHome } = await examine(home);
  assertEquals([code, problems], [0, 0], JSON.stringify(findings));
  const checks = [...new Set(findings.map(({ check }) => check))];
  assertEquals(checks, [
    ...["rbee", "config", "home", "key", "engine", "sandbox", "memory", "disk", "hive", "ports", "hub"],
  ]);
  assertEquals(await Array.fromAsync(Deno.readDir(home.rbeeHome)), []);
  const text = await runKeeper(["doctor"], { home: testHome, env: home.env });
  assertEquals(text.code, 0);
  assertStringIncludes(text.stdout, "ok       engine: llama.cpp");
});

Deno.test("each thing that is wrong is found, with what to do about it, and the rest is looked at all the same", async () => {
  await using home = await tempHome();
  await using otherHome = await tempHome();
  await using failing = await startHive({ home: otherHome, worker: { mode: "load-fails" } });
  const { worker_id } = await failing.client.spawn({ model_ref: "builtin:stories" });
  await eventually(
    "a failed worker",
    async () => (await failing.client.worker(worker_id)).state === "failed",
  );
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  const goneUrl = `http://127.0.0.1:${freePort()}`;
  const file = async (name: string, content: string, mode = 0o600) => {
    const path = join(home.path, name);
    await Deno.writeTextFile(path, content, { mode });
    return path;
  };
  const nodes = {
    good: { url: failing.url, api_key_file: await file("good.key", failing.key) },
    stranger: { url: failing.url, api_key_file: await file("stranger.key", "another-key-1") },
    open: { url: failing.url, api_key_file: await file("open.key", failing.key, 0o644) },
    off: { url: goneUrl, api_key_file: await file("off.key", "another-key-2") },
  };
  const hive = { listen: `127.0.0.1:${port}`, worker_ports: [port, port] };
  await Deno.writeTextFile(join(home.rbeeHome, "config.yaml"), JSON.stringify({ nodes, hive }));
  await Deno.chmod(home.rbeeHome, 0o755);
  const { code, findings, problems } = await examine(home);
  assertEquals(code, 1);
  const found = (check: string, level: string) =>
    findings.filter((each) => each.check === check && each.level === level);
  const [failed] = found("node good", "warning");
  assertStringIncludes(failed.what, worker_id);
  assertStringIncludes(failed.remedy!, `logs --node good --worker ${worker_id}`);
  for (
    const [check, what, remedy] of [
      ["home", "open to others (mode 0755)", "chmod go="],
      ["node stranger", "does not know this key", "nodes.stranger.api_key_file"],
      ["node open", "others could read it", "nodes.open.api_key_file"],
      ["node off", "does not answer", "nodes.off.url"],
      ["ports", "another program has port", "hive.listen"],
      ["ports", "all worker ports are taken", "hive.worker_ports"],
    ]
  ) {
    const match = found(check, "problem").find((each) => each.what.includes(what));
    assert(match !== undefined, `${check}: ${what} in ${JSON.stringify(findings)}`);
    assertStringIncludes(match.remedy!, remedy);
  }
  assertEquals(problems, 6);
  assertEquals(found("hub", "warning").length, 1);
});

Deno.test("a configuration that can't be read is the one finding", async () => {
  await using home = await tempHome();
  await Deno.writeTextFile(join(home.rbeeHome, "config.yaml"), "hive: { listn: x }");
  const { code, findings } = await examine(home);
  assertEquals(code, 1);
  const [, config] = findings;
  assertEquals([findings.length, config.check, config.level], [2, "config", "problem"]);
  assertStringIncludes(config.what, "hive.listn");
});

Deno.test("what a hive that was killed left behind is no problem, and a running one is looked at", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home, worker: { mode: "normal" } });
  const running = await examine(home);
  assertEquals(running.findings.filter(({ check }) => check === "hive").map(({ level }) => level), [
    "ok",
    "ok",
  ]);
  await hive.kill();
  const killed = await examine(home);
  assertEquals(killed.problems, 0);
  assertEquals(killed.findings.filter(({ check }) => check === "hive").map(({ level }) => level), [
    "warning",
  ]);
});

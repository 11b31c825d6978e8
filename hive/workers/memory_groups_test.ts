/** Groups of workers, below a folder that looks like a control group: the kernel gives no more than that to tests. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { createLogger } from "../../daemon/log.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { testHive } from "../../tests/helpers/test_hive.ts";
import { findGroupHome, MemoryGroups } from "./memory_groups.ts";

const isLinux = Deno.build.os === "linux";
const MOUNTS = [
  "25 30 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot",
  "26 30 0:24 / /proc rw - proc proc rw",
].join("\n");

Deno.test("groups lie beside the hive's own, where it was started in one below its unit", () => {
  assertEquals(findGroupHome("0::/system.slice/rbee-hive.service/hive\n", MOUNTS), {
    path: "/sys/fs/cgroup/system.slice/rbee-hive.service",
  });
  const hybrid = "32 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
  assertEquals(findGroupHome("4:memory:/x\n0::/rbee/hive\n", hybrid), {
    path: "/sys/fs/cgroup/unified/rbee",
  });
});

Deno.test("what belongs to systemd or to everybody is left alone", () => {
  for (
    const own of [
      "/",
      "/system.slice/rbee-hive.service",
      "/user.slice/user-1000.slice/session-3.scope",
      "/user.slice",
    ]
  ) {
    const home = findGroupHome(`0::${own}\n`, MOUNTS);
    assert("reason" in home, own);
  }
  assert("reason" in findGroupHome("4:memory:/x\n", MOUNTS));
  assert("reason" in findGroupHome("0::/a/b\n", "26 30 0:24 / /proc rw - proc proc rw"));
});

/** A folder with the files of a group, and what is logged. */
async function groupFolder(controllers = "cpu memory pids") {
  const path = await Deno.makeTempDir();
  await Deno.writeTextFile(join(path, "cgroup.controllers"), `${controllers}\n`);
  await Deno.writeTextFile(join(path, "cgroup.procs"), "");
  const lines: { message: string; [field: string]: unknown }[] = [];
  const log = createLogger({
    ...{ part: "test", level: "info", format: "json" },
    write: (line) => void lines.push(JSON.parse(line)),
  });
  return {
    ...{ path, lines },
    groups: new MemoryGroups({ home: () => Promise.resolve({ path }), log }),
    read: (...names: string[]) => Deno.readTextFile(join(path, ...names)).then((text) => text.trim()),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

Deno.test({
  name: "a worker gets a group with its limit, and the kernel ends it first",
  ignore: !isLinux,
  async fn() {
    await using folder = await groupFolder();
    const { groups, read } = folder;
    const process = new Deno.Command("sleep", { args: ["600"] }).spawn();
    try {
      await groups.enter({ id: "ab12", pid: process.pid, limitMb: 1_256 });
      assertEquals(await read("cgroup.subtree_control"), "+memory");
      assertEquals(await read("rbee-worker-ab12", "memory.max"), "1256000000");
      assertEquals(await read("rbee-worker-ab12", "memory.oom.group"), "1");
      assertEquals(await read("rbee-worker-ab12", "cgroup.procs"), String(process.pid));
      assertEquals(await Deno.readTextFile(`/proc/${process.pid}/oom_score_adj`), "1000\n");
      await groups.limit("ab12", 700);
      assertEquals(await read("rbee-worker-ab12", "memory.max"), "700000000");
      assertEquals(await groups.hasKilled("ab12"), false);
      await Deno.writeTextFile(join(folder.path, "rbee-worker-ab12", "memory.events"), "oom 1\noom_kill 1\n");
      assertEquals(await groups.hasKilled("ab12"), true);
    } finally {
      process.kill("SIGKILL");
      await process.status;
    }
    // The files of a real group are no reason not to remove it.
    for await (const { name } of Deno.readDir(join(folder.path, "rbee-worker-ab12"))) {
      await Deno.remove(join(folder.path, "rbee-worker-ab12", name));
    }
    await groups.remove("ab12");
    assert(!(await Array.fromAsync(Deno.readDir(folder.path))).some(({ isDirectory }) => isDirectory));
    assertEquals(folder.lines.map(({ level }) => level), ["info"]);
  },
});

Deno.test({
  name: "a group that is not the hive's to use is said once, and workers run without",
  ignore: !isLinux,
  async fn() {
    for (
      const [controllers, processes, why] of [
        ["cpu pids", "", "has no memory controller"],
        ["memory", "17", "holds processes of its own"],
      ]
    ) {
      await using folder = await groupFolder(controllers);
      await Deno.writeTextFile(join(folder.path, "cgroup.procs"), processes);
      await folder.groups.enter({ id: "ab12", pid: 2 ** 30, limitMb: 1 });
      await folder.groups.limit("ab12", 2);
      assertEquals(await folder.groups.hasKilled("ab12"), false);
      await folder.groups.remove("ab12");
      assertEquals(folder.lines.length, 1);
      assertStringIncludes(String(folder.lines[0].reason), why);
      const home = await folder.groups.home();
      assert("reason" in home);
    }
  },
});

Deno.test({
  name: "groups that a hive before this one has left are removed",
  ignore: !isLinux,
  async fn() {
    await using folder = await groupFolder();
    await Deno.mkdir(join(folder.path, "rbee-worker-dead"));
    await Deno.mkdir(join(folder.path, "hive"));
    await folder.groups.home();
    const left = (await Array.fromAsync(Deno.readDir(folder.path))).filter(({ isDirectory }) => isDirectory);
    assertEquals(left.map(({ name }) => name), ["hive"]);
  },
});

Deno.test({
  name:
    "a worker that the kernel has ended at its limit is failed with that cause; an adopted one gets a group too",
  ignore: !isLinux,
  async fn() {
    await using home = await tempHome();
    await using folder = await groupFolder();
    const { groups } = folder;
    const first = await testHive({ home: home.rbeeHome, groups });
    const { worker_id } = await first.spawn();
    const { pid } = await first.until(worker_id, "idle");
    const group = join(folder.path, `rbee-worker-${worker_id}`);
    const inGroup = () =>
      eventually("the worker in its group", async () => {
        const pids = await Deno.readTextFile(join(group, "cgroup.procs")).catch(() => "");
        return pids.trim() === String(pid);
      });
    await inGroup();
    assertEquals(await Deno.readTextFile(`/proc/${pid}/oom_score_adj`), "1000\n");
    await first.abandon();
    await Deno.remove(group, { recursive: true });

    await using second = await testHive({ home: home.rbeeHome, groups });
    await second.workers.adopt();
    await second.until(worker_id, "idle");
    await inGroup();
    const { url, api_key } = await second.spawn();
    await new WorkerClient({ baseUrl: url, apiKey: api_key }).health();
    await Deno.writeTextFile(join(group, "memory.events"), "oom_kill 1\n");
    Deno.kill(pid, "SIGKILL");
    const { error } = await second.until(worker_id, "failed");
    assertStringIncludes(error!.message, "MB of memory");
    assert(second.log.some(({ cause }) => cause === "memory"));
  },
});

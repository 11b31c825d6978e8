import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { findLogs, outdatedLogs, removeLog } from "./old_logs.ts";

Deno.test("the oldest logs go when there are too many, or when they take too much together", () => {
  const logs = [1, 2, 3, 4].map((age) => ({ workerId: `${age}`, sizeBytes: 10, lastMs: -age }));
  const ids = (bounds: { max: number; maxBytes: number }) =>
    outdatedLogs(logs.toReversed(), bounds).map(({ workerId }) => workerId);
  assertEquals(ids({ max: 2, maxBytes: 1_000 }), ["3", "4"]);
  assertEquals(ids({ max: 10, maxBytes: 29 }), ["3", "4"]);
  assertEquals(ids({ max: 10, maxBytes: 40 }), []);
});

Deno.test("both files of a worker are one log; those of live workers and of others are left alone", async () => {
  await using home = await tempHome();
  const logs = join(home.rbeeHome, "logs");
  await Deno.mkdir(logs, { recursive: true });
  for (const name of ["worker-aa.log", "worker-aa.log.1", "worker-bb.log", "hive.log", "worker-../x.log"]) {
    await Deno.writeTextFile(join(logs, name.replaceAll("/", "_")), "12345");
  }
  const found = await findLogs(home.rbeeHome, new Set(["bb"]));
  assertEquals(found.map(({ workerId, sizeBytes }) => [workerId, sizeBytes]), [["aa", 10]]);
  await removeLog(home.rbeeHome, "aa");
  const left = (await Array.fromAsync(Deno.readDir(logs))).map(({ name }) => name).sort();
  assertEquals(left, ["hive.log", "worker-.._x.log", "worker-bb.log"]);
});

/**
 * A program that starts like a hive, as far as a keeper can see: takes the home or refuses, serves, writes
 * `hive.json`. Takes the home's path and what to do: `serve` or `fail`.
 */
import { join } from "@std/path";
import { API_VERSION, VERSION } from "../../protocol/version.ts";

const [home, behaviour] = Deno.args;
console.error(`pid ${Deno.pid} of session ${await sessionOf(Deno.pid)}`);
if (behaviour === "fail") {
  console.error("the disk is made of cheese");
  Deno.exit(1);
}
using lock = await Deno.open(join(home, "hive.lock"), { create: true, write: true });
if (!await lock.tryLock(true)) {
  console.error("another hive runs on this home");
  Deno.exit(1);
}
const server = Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: () => {} },
  () => Response.json({ status: "alive", version: VERSION, api_version: API_VERSION }),
);
const file = {
  pid: Deno.pid,
  url: `http://127.0.0.1:${server.addr.port}`,
  version: VERSION,
  started_unix: 1,
};
await Deno.writeTextFile(join(home, "hive.json.new"), JSON.stringify(file));
await Deno.rename(join(home, "hive.json.new"), join(home, "hive.json"));
await server.finished;

async function sessionOf(pid: number): Promise<string> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")")).split(" ")[4];
}

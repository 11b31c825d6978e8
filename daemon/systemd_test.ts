import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { createLogger, type LogFields } from "./log.ts";
import { serviceManager } from "./systemd.ts";

/** A service manager's socket, and a log. */
async function systemd() {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "notify");
  const socket = Deno.listenDatagram({ transport: "unixpacket", path });
  const lines: LogFields[] = [];
  const log = createLogger({
    ...{ part: "test", level: "debug", format: "json" },
    write: (line) => void lines.push(JSON.parse(line)),
  });
  return {
    ...{ path, log, lines },
    async next() {
      const [bytes] = await socket.receive();
      return new TextDecoder().decode(bytes);
    },
    async [Symbol.asyncDispose]() {
      socket.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

Deno.test("systemd is told that a daemon serves and that it leaves, one line each", async () => {
  await using manager = await systemd();
  const service = serviceManager({ env: new Map([["NOTIFY_SOCKET", manager.path]]), log: manager.log });
  service.ready("Serving at\nhttp://127.0.0.1:9200");
  assertEquals(await manager.next(), "READY=1\nSTATUS=Serving at http://127.0.0.1:9200");
  service.stopping();
  assertEquals(await manager.next(), "STOPPING=1");
  await service.close();
});

Deno.test("signs of life come as long as the event loop turns, if this process is meant", async () => {
  await using manager = await systemd();
  const env = { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: "20000" };
  const service = serviceManager({
    env: new Map(Object.entries({ ...env, WATCHDOG_PID: "7" })),
    pid: 7,
    log: manager.log,
  });
  service.ready("");
  await manager.next();
  assertEquals([await manager.next(), await manager.next()], ["WATCHDOG=1", "WATCHDOG=1"]);
  await service.close();

  const other = serviceManager({
    env: new Map(Object.entries({ ...env, WATCHDOG_PID: "8" })),
    pid: 7,
    log: manager.log,
  });
  other.ready("not watched");
  // Signs that were on their way may come first; after this nothing follows.
  for (let message = ""; !message.includes("not watched");) message = await manager.next();
  other.stopping();
  assertEquals(await manager.next(), "STOPPING=1");
  await other.close();
});

Deno.test("without a socket nothing happens, and one that is gone is told once", async () => {
  await using manager = await systemd();
  const without = serviceManager({ env: new Map(), log: manager.log });
  without.ready("");
  without.stopping();
  await without.close();
  assertEquals(manager.lines, []);
  const gone = serviceManager({ env: new Map([["NOTIFY_SOCKET", "/no/such/socket"]]), log: manager.log });
  gone.ready("");
  gone.stopping();
  await gone.close();
  assertEquals(manager.lines.length, 1);
  assert(String(manager.lines[0].message).includes("systemd"));
});

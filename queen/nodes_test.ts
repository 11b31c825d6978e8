import { assertEquals, assertMatch } from "@std/assert";
import { FakeFleet, FLEET_MODEL, type FleetQueen, fleetQueen } from "../tests/helpers/fake_fleet.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";

Deno.test("a machine that is added is looked at without a key, so that a mistyped address learns none", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home);
  const seen: string[] = [];
  await using stranger = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    seen.push(`${new URL(request.url).pathname} ${request.headers.get("Authorization")}`);
    return Response.json({ status: "alive", version: "1", api_version: "1" });
  });
  const added = await queen.call("/v2/registry/beehives/add", {
    node_name: "mac",
    hive_url: `http://127.0.0.1:${stranger.addr.port}`,
  });
  const { status, devices } = await added.json();
  assertEquals([added.status, status, devices], [200, "reachable", []]);
  assertEquals(seen, ["/health null"]);
});

Deno.test("a report that is refused is in the log, once for each reason", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home);
  const refused = () => queen.log.filter(({ message }) => message === "report of a hive is refused");
  for (const key of ["key-of-the-queen", "key-of-a-stranger"]) {
    for (let i = 0; i < 3; i++) {
      const response = await queen.call("/v2/hives/heartbeat", { node_name: "mac" }, {
        Authorization: `Bearer ${key}`,
      });
      assertEquals(response.ok, false);
      await response.body?.cancel();
    }
  }
  assertEquals(refused().map(({ code }) => code), ["INVALID_REQUEST", "INVALID_API_KEY"]);
});

Deno.test("what is wanted of a machine that only ever reported outlives the queen", async () => {
  await using home = await tempHome();
  const ask = async (queen: FleetQueen, act: string, more: Record<string, unknown> = {}) => {
    const response = await queen.call(`/v2/registry/beehives/${act}`, { node_name: "n", ...more });
    return { status: response.status, node: await response.json() };
  };
  {
    await using queen = await fleetQueen(home);
    await using fleet = new FakeFleet(queen);
    assertEquals((await ask(queen, "cordon")).status, 404);
    await fleet.start(1);
    assertEquals((await ask(queen, "cordon")).node.cordoned, true);
    const labelled = await ask(queen, "label", { add: ["fast", "cuda"] });
    assertEquals(labelled.node.labels, ["cuda", "fast"]);
    assertEquals((await ask(queen, "label", { remove: ["cuda"] })).node.labels, ["fast"]);
    assertEquals((await ask(queen, "label", { add: ["not a label"] })).status, 400);
    assertEquals([labelled.node.version, labelled.node.slots_total], ["0", 4]);
  }
  await using queen = await fleetQueen(home);
  await using fleet = new FakeFleet(queen);
  await fleet.start(1);
  const { nodes } = await (await queen.call("/v2/registry/beehives/list")).json();
  assertEquals([nodes.length, nodes[0].cordoned, nodes[0].labels], [1, true, ["fast"]]);
  const { why } = await (await queen.call(`/v2/explain?model=${FLEET_MODEL}`)).json();
  assertMatch(why, /n: It is cordoned/);
  assertEquals((await ask(queen, "uncordon")).node.cordoned, false);
  const after = await (await queen.call(`/v2/explain?model=${FLEET_MODEL}`)).json();
  assertEquals(after.decision, "run");
});

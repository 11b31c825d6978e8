import { assertEquals } from "@std/assert";
import { fleetQueen } from "../tests/helpers/fake_fleet.ts";
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

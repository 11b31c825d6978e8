/** What a queen has accepted comes to its end, whatever becomes of the queen and of those who listen. */
import { assert, assertEquals } from "@std/assert";
import type { TaskEvent } from "../../protocol/queen_schemas.ts";
import { readEvents } from "../../protocol/sse.ts";
import { eventually } from "../helpers/eventually.ts";
import { FakeFleet, FLEET_MODEL as model, FLEET_TOKENS, fleetQueen } from "../helpers/fake_fleet.ts";
import { tempHome } from "../helpers/temp_home.ts";
import { restartRound, RIGHT_ENDS } from "./restart_round.ts";

Deno.test("of 4 running and 100 queued tasks of two keys all are done after their queen was killed", async () => {
  assertEquals(await restartRound(), RIGHT_ENDS);
});

Deno.test("a task that would find its key's share of the queue full is refused before it is accepted", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, { queue_limit: 4 });
  await using fleet = new FakeFleet(queen, { slots: 1 });
  await fleet.start(1);
  const submit = async () => (await queen.call("/v2/tasks", { model, prompt: "gated" })).status;
  const statuses = await Promise.all(Array.from({ length: 12 }, submit));
  assertEquals(statuses.filter((status) => status === 202).length, statuses.filter((s) => s !== 429).length);
  assert(statuses.includes(429));
  fleet.openGate();
  await eventually("all accepted tasks to end", () => queen.queen.parts.scheduler.waiting === 0);
  assertEquals(queen.log.filter(({ message }) => message === "task failed"), []);
});

Deno.test("requests that wait outlive the silence of all machines", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home);
  await using fleet = new FakeFleet(queen, { slots: 1 });
  await fleet.start(1);
  const ask = (prompt: string) => queen.call("/v1/completions", { model, prompt });
  const running = ask("gated");
  await eventually("it to run", () => fleet.seen.length === 1);
  const waiting = ask("harmless");
  const { cluster, scheduler, now } = queen.queen.parts;
  await eventually("it to wait", () => scheduler.waiting === 1);
  for (let ms = 0; ms < 20_000; ms += 500) scheduler.changed(cluster.tick(now() + ms));
  assertEquals(cluster.node("n")?.presence, "stale");
  scheduler.tick();
  assertEquals(scheduler.waiting, 1);
  await fleet.report();
  fleet.openGate();
  assertEquals([(await running).status, (await waiting).status], [200, 200]);
});

Deno.test("events of more than a reader may leave unread are replayed to the last as it reads", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home);
  await using fleet = new FakeFleet(queen);
  await fleet.start(1);
  const events = async (response: Response) =>
    await Array.fromAsync(readEvents(response.body!)) as TaskEvent[];
  const { job_id } = await (await queen.call("/v2/tasks", { model, prompt: "long-tokens" })).json();
  const told = await events(await queen.call(`/v2/tasks/${job_id}/events`));
  const again = await events(await queen.call(`/v2/tasks/${job_id}/events`));
  const tokens = again.filter(({ type }) => type === "token");
  assertEquals(tokens.length, FLEET_TOKENS);
  assertEquals(again.at(-1)?.type, "end");
  assert(JSON.stringify(again).length > 16 * 1024 * 1024);
  assertEquals(told.filter(({ type }) => type === "token").length, FLEET_TOKENS);
});

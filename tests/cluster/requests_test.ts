/** What waits or runs in a queen, whatever way it came: shown to those whom it concerns, and canceled by them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import type { RequestInfo, RequestsResponse } from "../../protocol/request_schemas.ts";
import { join } from "@std/path";
import { emptyHome, runKeeper } from "../../keeper/testing/keeper_process.ts";
import { startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import { FakeFleet, FLEET_MODEL as model, type FleetQueen, fleetQueen } from "../helpers/fake_fleet.ts";
import { tempHome } from "../helpers/temp_home.ts";

const hash = (key: string) => createHash("sha256").update(key).digest("hex");
const bearer = (key: string) => ({ Authorization: `Bearer ${key}` });
const ADA = bearer("key-of-ada-lovelace");
const BOB = bearer("key-of-bob");
const OSCAR = bearer("key-of-an-operator");

const DAY = 100_000;
const KEYS = [
  { name: "ada", hash: hash("key-of-ada-lovelace"), tokens_per_day: DAY },
  { name: "bob", hash: hash("key-of-bob") },
  { name: "oscar", hash: hash("key-of-an-operator"), rights: "operator" },
];

interface Bed {
  queen: FleetQueen;
  fleet: FakeFleet;
  list(query?: string, headers?: Record<string, string>): Promise<RequestsResponse>;
  cancel(id: string, headers?: Record<string, string>): Promise<Response>;
  /** Waits until so many are there. */
  there(count: number): Promise<RequestInfo[]>;
}

/** A queen with one worker of one slot. */
async function withBed(run: (bed: Bed) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, { keys: KEYS });
  await using fleet = new FakeFleet(queen, { slots: 1 });
  await fleet.start(1);
  const list = async (query = "", headers?: Record<string, string>): Promise<RequestsResponse> =>
    await (await queen.call(`/v2/requests${query}`, undefined, headers)).json();
  const cancel = (id: string, headers: Record<string, string> = bearer("key-of-the-queen")) =>
    queen.queen.app(new Request(`http://queen/v2/requests/${id}`, { method: "DELETE", headers }));
  const there = async (count: number) => {
    const all = await eventually(`${count} requests`, async () => {
      const { requests } = await list();
      const isSettled = requests.every(({ state, position, tokens_made }) =>
        state === "waiting" ? position !== undefined : tokens_made === 3
      );
      return requests.length === count && isSettled ? requests : undefined;
    });
    return all;
  };
  await run({ queen, fleet, list, cancel, there });
}

const chat = { model, messages: [{ role: "user", content: "gated secret" }] };

Deno.test("what runs and what waits is listed with where and why, and nothing of what it asks", () =>
  withBed(async ({ queen, fleet, list, there }) => {
    const running = await queen.call("/v1/chat/completions", { ...chat, stream: true }, ADA);
    await there(1);
    const waiting = [queen.call("/v2/tasks", { model, prompt: "secret", priority: "batch" }, BOB)];
    await there(2);
    waiting.push(queen.call("/v1/messages", { ...chat, max_tokens: 9 }, BOB));
    await there(3);
    waiting.push(queen.call("/v1/embeddings", { model, input: "secret" }, ADA));
    const all = await there(4);
    assertEquals(all.map(({ key, route, state, n }) => [key, route, state, n]), [
      ["ada", "/v1/chat/completions", "running", 1],
      ["bob", "/v2/tasks", "waiting", 1],
      ["bob", "/v1/messages", "waiting", 1],
      ["ada", "/v1/embeddings", "waiting", 1],
    ]);
    const [first, task] = all;
    assertEquals([first.node, first.worker_id, first.tokens_read, first.tokens_made], ["n", "w1", 3, 3]);
    assertEquals([task.model, task.priority, task.tokens_made], [model, "batch", 0]);
    assertEquals(all.slice(1).map(({ position }) => position!).sort(), [0, 1, 2]);
    assertMatch(task.why!, /slots/);
    assert(task.eta_ms! > 0);
    assert(Math.abs(first.since_unix - Date.now() / 1000) < 60 && first.state_since_unix >= first.since_unix);
    assertEquals(JSON.stringify(all).includes("secret"), false);

    const ids = async (headers: Record<string, string>) =>
      (await list("", headers)).requests.map(({ id }) => all.findIndex((one) => one.id === id));
    assertEquals([await ids(ADA), await ids(BOB), await ids(OSCAR)], [[0, 3], [1, 2], [0, 1, 2, 3]]);
    const prefixed = await list(`?id=${first.id.slice(0, 10)}`);
    assertEquals([prefixed.requests.map(({ id }) => id), prefixed.total], [[first.id], 1]);

    const pages: string[] = [];
    let next: string | null = "0";
    while (next !== null && pages.length < 3) {
      const page: RequestsResponse = await list(`?limit=3&after=${next}`);
      pages.push(page.requests.map(({ id }) => all.findIndex((one) => one.id === id)).join());
      assertEquals(page.total, 4);
      next = page.next;
    }
    assertEquals(pages, ["0,1,2", "3"]);
    assertEquals((await queen.call("/v2/requests?limit=1001")).status, 400);

    fleet.openGate();
    await running.body?.cancel();
    for (const response of await Promise.all(waiting)) await response.body?.cancel();
    await eventually("all to be over", async () => (await list()).total === 0);
  }));

Deno.test("a canceled request ends in its reader's own words, and gives back its slot and what was reserved", () =>
  withBed(async ({ queen, cancel, there }) => {
    const { cluster, accounts, scheduler } = queen.queen.parts;
    const stream = await queen.call("/v1/chat/completions", { ...chat, stream: true, max_tokens: 500 }, ADA);
    const [running] = await there(1);
    const messages = queen.call("/v1/messages", { ...chat, max_tokens: 9 }, BOB);
    const [, waiting] = await there(2);

    assertEquals((await cancel(waiting.id)).status, 204);
    const refused = await messages;
    assertEquals(refused.status, 499);
    const { type, error } = await refused.json();
    assertEquals([type, error.code], ["error", "REQUEST_CANCELED"]);
    assertEquals(scheduler.waiting, 0);

    assert(accounts.room("ada").available < DAY - 400, "its answer is reserved");
    assertEquals((await cancel(running.id, ADA)).status, 204);
    const told = await stream.text();
    assertMatch(told, /"code":"REQUEST_CANCELED"/);
    assertEquals(cluster.worker("w1")?.own, 0);
    // What was read and made counts.
    assert(accounts.room("ada").available >= DAY - 10);
    assertEquals((await cancel(running.id)).status, 404);
    const metrics = await (await queen.call("/metrics")).text();
    assertMatch(metrics, /canceled"\} 2/);
  }));

Deno.test("a canceled embedding ends where it runs, and the next one gets its slot", () =>
  withBed(async ({ queen, fleet, cancel, list }) => {
    const hanging = queen.call("/v1/embeddings", { model, input: "hangs" }, ADA);
    await eventually("it to run", () => fleet.seen.length === 1);
    const next = queen.call("/v1/embeddings", { model, input: "harmless" }, BOB);
    const [{ id }] = (await list()).requests;
    assertEquals((await cancel(id, OSCAR)).status, 204);
    const { error } = await (await hanging).json();
    assertEquals([(await hanging).status, error.code], [499, "REQUEST_CANCELED"]);
    assertEquals((await next).status, 200);
  }));

Deno.test("a canceled task is as one that its own route canceled, and another key's is not there", () =>
  withBed(async ({ queen, cancel, there }) => {
    const submit = async () =>
      (await (await queen.call("/v2/tasks", { model, prompt: "gated" }, ADA)).json()).job_id;
    const [running, waiting] = [await submit(), await submit()];
    await there(2);
    assertEquals((await cancel(running, BOB)).status, 404);
    assertEquals((await cancel(waiting, ADA)).status, 204);
    assertEquals((await cancel(running, OSCAR)).status, 204);
    for (const id of [running, waiting]) {
      const { status, error } = await (await queen.call(`/v2/tasks/${id}`, undefined, ADA)).json();
      assertEquals([status, error.code], ["canceled", "REQUEST_CANCELED"]);
      const events = await (await queen.call(`/v2/tasks/${id}/events`, undefined, ADA)).text();
      assertMatch(events, /event: error\n.*REQUEST_CANCELED/);
    }
    // Again, as on the route of tasks.
    assertEquals([(await cancel(running, ADA)).status, (await cancel(running, BOB)).status], [204, 404]);
    assertEquals((await cancel("nothing")).status, 404);
    assertEquals(queen.queen.parts.cluster.worker("w1")?.own, 0);
  }));

Deno.test("requests are listed by the keeper, and canceled by the beginning of their ids", async () => {
  await using cluster = await startCluster({ nodes: ["mac"], queenConfig: { keys: KEYS } });
  const { queen } = cluster;
  await using home = await emptyHome();
  const keyFile = join(home.path, "operator.key");
  await Deno.writeTextFile(keyFile, "key-of-an-operator\n", { mode: 0o600 });
  const keeper = (...args: string[]) =>
    runKeeper(["requests", ...args, "--queen", queen.url], { home, env: { RBEE_QUEEN_KEY_FILE: keyFile } });
  await queen.client.onNode("cordonNode", "mac");
  const asked = fetch(`${queen.url}/v1/completions`, {
    method: "POST",
    headers: ADA,
    body: JSON.stringify({ model, prompt: "secret", stream: true }),
  });
  const [request] = await eventually("the request", async () => {
    const { requests } = await queen.client.requests();
    return requests.length === 1 ? requests : undefined;
  });
  const listed = await keeper("list");
  const row = `${request.id.slice(0, 12)} +ada +builtin:stories +/v1/completions .* waiting at position 1`;
  assertMatch(listed.stdout, new RegExp(row), listed.stderr);
  const done = await keeper("cancel", request.id.slice(0, 8), "--json");
  assertEquals(JSON.parse(done.stdout), { id: request.id, model, canceled: true });
  assertMatch(await (await asked).text(), /REQUEST_CANCELED/);
  assertMatch((await keeper("list")).stderr, /Nothing waits or runs/);
  const gone = await keeper("cancel", request.id);
  assertEquals(gone.code, 1);
  assertMatch(gone.stderr, /begins with/);
});

import { assert, assertEquals, assertMatch } from "@std/assert";
import * as fc from "fast-check";
import { BLOCK_TOKENS } from "../../protocol/prefix_blocks.ts";
import { explain } from "./explain.ts";
import { liesInModel } from "./load_placement.ts";
import { place, sharedTokens } from "./placement.ts";
import { type ClusterView, modelViewOf, type NodeView, roomOf, type Wish, type WorkerView } from "./view.ts";
import { RETURN_MS } from "../limits.ts";

function worker(over: Partial<WorkerView> = {}): WorkerView {
  return {
    ...{ id: "w", node: "n", model: "m", backend: "cpu", device: 0, state: "ready", slots: 4, busy: 0 },
    ...{ blocks: new Set(), memoryMb: 1_000, pinned: false, lastUsedMs: 0, context: 4_096 },
    ...{ untold: 0, trialUntilMs: 0 },
    ...over,
  };
}

function node(over: Partial<NodeView> = {}): NodeView {
  const made = {
    ...{ name: "n", presence: "up" as const, cordoned: false, loads: 0, heardMs: 0 },
    ...{ models: new Map(), workers: [], refusals: new Map(), isLoading: () => false },
    devices: [{ backend: "cpu" as const, index: 0, freeMb: 8_000, totalMb: 16_000 }],
    ...over,
  };
  return { roomMb: roomOf(made), ...made };
}

function cluster(nodes: readonly NodeView[], over: Partial<ClusterView> = {}): ClusterView {
  const workersOf = (model: string) =>
    nodes.filter(({ presence, cordoned }) => presence === "up" && !cordoned)
      .flatMap(({ workers }) => [...workers]).filter((one) => one.model === model);
  return {
    nodes: () => nodes,
    node: (name) => nodes.find((one) => one.name === name),
    workersOf,
    modelView: (model) => modelViewOf(workersOf(model)),
    loadsOf: () => 0,
    refusalOf: () => undefined,
    sizeOf: () => undefined,
    settling: false,
    ...over,
  };
}

const WISH: Wish = { model: "m", promptTokens: 320 };

Deno.test("a free slot is taken where the prompt is, unless reading it elsewhere is faster", () => {
  const blocks = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const holds = worker({ id: "holds", blocks: new Set(blocks), slots: 64 });
  const other = worker({ id: "other", slots: 64 });
  const decide = (busy: number) =>
    place({ ...WISH, blocks }, cluster([node({ workers: [other, { ...holds, busy }] })]), 0);
  const quiet = decide(0);
  assert(quiet.kind === "run");
  assertEquals([quiet.worker.id, quiet.sharedTokens], ["holds", 288]);
  const alsoQuiet = decide(4);
  assertEquals(alsoQuiet.kind === "run" && alsoQuiet.worker.id, "holds");
  const overloaded = decide(20);
  assertEquals(overloaded.kind === "run" && overloaded.worker.id, "other");
});

Deno.test("of two that know nothing of a prompt the one with more room takes it", () => {
  const workers = [worker({ id: "full", blocks: new Set([1, 2]) }), worker({ id: "empty" })];
  const decision = place(WISH, cluster([node({ workers })]), 0);
  assertEquals(decision.kind === "run" && decision.worker.id, "empty");
});

Deno.test("a suspect goes where nobody is, or where all have told something, and nobody joins it until its trial ends", () => {
  const where = (workers: Partial<WorkerView>[], wish: Partial<Wish> = { suspect: true }, nowMs = 0) => {
    const ids = workers.map((one, i) => worker({ id: `w${i}`, ...one }));
    const decision = place({ ...WISH, ...wish }, cluster([node({ workers: ids })]), nowMs);
    return decision.kind === "run" ? decision.worker.id : decision.kind;
  };
  const holder = { busy: 1, untold: 1, blocks: new Set([1]) };
  const held = { blocks: [1], promptTokens: BLOCK_TOKENS + 1 };
  assertEquals(where([holder, {}], { suspect: true, ...held }), "w1");
  assertEquals(where([holder, {}], held), "w0");
  assertEquals(where([{ busy: 1, untold: 1 }, { busy: 3 }]), "w1");
  assertEquals(where([{ busy: 2 }, { busy: 1 }]), "w1");
  const tried = { busy: 1, untold: 1, trialUntilMs: 10 };
  for (const suspect of [true, false]) {
    assertEquals(where([tried, { busy: 3 }], { suspect }), "w1");
    assertEquals(where([tried], { suspect }), "wait");
    assertEquals(where([tried], { suspect }, 10), "w0");
  }
});

Deno.test("a model is loaded where it fits: without others leaving, then where its files are", () => {
  const models = new Map([["m", 4e9]]);
  const small = [{ backend: "cpu" as const, index: 0, freeMb: 1_000, totalMb: 16_000 }];
  const idle = worker({ id: "idle", model: "x", memoryMb: 6_000, lastUsedMs: 1 });
  const older = worker({ id: "older", model: "y", memoryMb: 6_000, lastUsedMs: 0 });
  const hasFiles = node({ name: "files", models });
  const hasRoom = node({ name: "room" });
  const mustEvict = node({ name: "evicts", models, devices: small, workers: [idle, older] });
  const where = (nodes: NodeView[]) => place(WISH, cluster(nodes, { sizeOf: () => 4e9 }), 0);
  const best = where([mustEvict, hasRoom, hasFiles]);
  assertEquals(best.kind === "load" && [best.node, best.evicts], ["files", []]);
  const next = where([mustEvict, hasRoom]);
  assertEquals(next.kind === "load" && next.node, "room");
  const last = where([mustEvict]);
  assertEquals(last.kind === "load" && [last.node, last.evicts], ["evicts", ["older"]]);
  const pinned = { ...mustEvict, workers: [{ ...idle, pinned: true }, { ...older, busy: 1 }] };
  assertEquals(where([pinned]).kind, "wait");
});

Deno.test("one load is enough, and a second worker is only wanted on another machine with room", () => {
  const full = worker({ busy: 4 });
  const loading = cluster([node()], { loadsOf: () => 1 });
  assertEquals(place(WISH, loading, 0).kind, "wait");
  const one = node({ workers: [full] });
  assertEquals(place(WISH, cluster([one]), 0).kind, "wait");
  assertEquals(place({ ...WISH, grow: true }, cluster([one]), 0).kind, "wait");
  const grown = place({ ...WISH, grow: true }, cluster([one, node({ name: "second" })]), 0);
  assertEquals(grown.kind === "load" && grown.node, "second");
});

Deno.test("what can never be says why, and what may come is waited for", () => {
  const refused = (code: string) =>
    node({ refusals: new Map([["m", { atMs: 0, untilMs: 10, code, message: "Its words." }]]) });
  const never = place(WISH, cluster([refused("MODEL_NOT_FOUND")]), 5);
  assertEquals(never, { kind: "never", code: "MODEL_NOT_FOUND", why: "Its words." });
  assertEquals(place(WISH, cluster([refused("NODE_UNREACHABLE")]), 5).kind, "wait");
  assertEquals(place(WISH, cluster([refused("MODEL_NOT_FOUND")]), 11).kind, "load");
  const none = place(WISH, cluster([]), 0);
  assertEquals(none.kind === "never" && none.code, "NODE_UNREACHABLE");
  assertEquals(place(WISH, cluster([], { settling: true }), 0).kind, "wait");
  const unknown = place({ ...WISH, node: "x" }, cluster([node()]), 0);
  assertEquals(unknown.kind === "never" && unknown.code, "NODE_NOT_FOUND");
  assertEquals(place({ ...WISH, node: "n" }, cluster([node({ presence: "stale" })]), 0).kind, "wait");
  const long = place({ ...WISH, context: 9_000 }, cluster([node({ workers: [worker()] })]), 0);
  assertEquals(long.kind === "never" && long.code, "INVALID_REQUEST");
});

Deno.test("machines that fell silent are waited for: by all for a while, by what was accepted until its deadline", () => {
  const gone = [node({ presence: "down", heardMs: 1_000 })];
  for (const wish of [WISH, { ...WISH, node: "n" }]) {
    const kindAt = (nowMs: number, over: Partial<Wish> = {}) =>
      place({ ...wish, ...over }, cluster(gone), nowMs).kind;
    assertEquals([kindAt(999 + RETURN_MS), kindAt(1_000 + RETURN_MS)], ["wait", "never"]);
    assertEquals(kindAt(1e9, { patient: "gone" }), "wait");
  }
});

Deno.test("a reason that lies in the model ends it at once, one of the machine at the third", () => {
  const refusal = (code: string) => ({ atMs: 0, untilMs: 10, code, message: "Its words." });
  const nodes = (count: number, code: string) =>
    Array.from(
      { length: 40 },
      (_, i) => node({ name: `n${i}`, refusals: i < count ? new Map([["m", refusal(code)]]) : new Map() }),
    );
  const told = { kind: "never", code: "INVALID_MODEL", why: "Its words." };
  assertEquals(
    place(WISH, cluster(nodes(0, ""), { refusalOf: () => refusal("INVALID_MODEL") }), 5),
    told as never,
  );
  const after = (count: number) => place(WISH, cluster(nodes(count, "WORKER_START_FAILED")), 5).kind;
  // Loads that take longer than a refusal lasts: only the last one still stands.
  const slow = nodes(3, "WORKER_START_FAILED").map((one, i) => ({
    ...one,
    refusals: new Map(
      i < 3 ? [["m", { ...refusal("WORKER_START_FAILED"), atMs: 20 * i, untilMs: 20 * i + 10 }]] : [],
    ),
  }));
  assertEquals([45, 50].map((nowMs) => place(WISH, cluster(slow), nowMs).kind), ["never", "load"]);
  assertEquals([after(0), after(1), after(2), after(3)], ["load", "load", "load", "never"]);
  assert(liesInModel("hf:a/b:Q8_0", "CHECKSUM_MISMATCH") && !liesInModel("file:/a.gguf", "MODEL_NOT_FOUND"));
  assert(!liesInModel("hf:a/b:Q8_0", "INSUFFICIENT_DISK"));
});

Deno.test("several slots are taken of one worker, or all that it has, and gathered where most are free", () => {
  const wish = { ...WISH, slots: 4 };
  const decide = (workers: Partial<WorkerView>[], over: Partial<Wish> = {}) =>
    place(
      { ...wish, ...over },
      cluster([node({ workers: workers.map((one, i) => worker({ id: `w${i}`, ...one })) })]),
      0,
    );
  const fits = decide([{ busy: 1 }, { busy: 0 }]);
  assertEquals(fits.kind === "run" && fits.worker.id, "w1");
  const small = decide([{ slots: 2 }, { busy: 1 }]);
  assertEquals(small.kind === "run" && small.worker.id, "w0");
  const waits = decide([{ busy: 3 }, { busy: 2 }, { busy: 4 }]);
  assertEquals(waits.kind === "wait" && waits.gathers?.id, "w1");
  const other = decide([{ busy: 3 }, { busy: 2 }], { slots: 1, avoid: "w1" });
  assertEquals(other.kind === "run" && other.worker.id, "w0");
  assertEquals(decide([{ busy: 2 }], { slots: 1, avoid: "w0" }).kind, "wait");
});

Deno.test("what a worker holds of a prompt is the longest beginning, found without trying each", () => {
  fc.assert(fc.property(fc.nat(5_000), fc.nat(5_000), (held, asked) => {
    const blocks = Array.from({ length: asked }, (_, i) => i);
    let looks = 0;
    const has = (block: number) => (looks++, block < held);
    const shared = Math.min(held, asked);
    assertEquals(sharedTokens({ blocks: { has, size: held } }, { blocks }), shared * BLOCK_TOKENS);
    assert(looks <= 1 + 2 * Math.ceil(Math.log2(shared + 1)), `${looks} looks`);
  }));
});

Deno.test("a cordoned machine gets nothing new, neither an answer nor a model", () => {
  const cordoned = node({ name: "mac", cordoned: true, workers: [worker({ node: "mac" })] });
  const at = (nodes: NodeView[], wish: Partial<Wish> = {}) => place({ ...WISH, ...wish }, cluster(nodes), 0);
  const elsewhere = at([cordoned, node()]);
  assertEquals(elsewhere.kind === "load" && elsewhere.node, "n");
  for (const waits of [at([cordoned]), at([cordoned, node()], { node: "mac" })]) {
    assertEquals(waits.kind, "wait");
    assertMatch(waits.why, /mac.* is cordoned/i);
  }
  const [told] = explain(WISH, cluster([cordoned]), 0).nodes;
  assertEquals(told.verdict, "no");
  assertMatch(`${told.why} ${told.remedy}`, /cordoned.*uncordon mac/);
});

Deno.test("what no machine has to compute on is refused at once, and what a silent one has is waited for", () => {
  const cuda = [{ backend: "cuda" as const, index: 0, freeMb: 8_000, totalMb: 8_000 }];
  const at = (nodes: NodeView[], wish: Partial<Wish>, over: Partial<ClusterView> = {}) =>
    place({ ...WISH, ...wish }, cluster(nodes, over), 0);
  const none = at([node()], { backend: "cuda" });
  assertEquals(none.kind === "never" && none.code, "BACKEND_UNAVAILABLE");
  assertMatch(none.why, /No machine of this cluster can compute on cuda; there is cpu:0/);
  const third = at([node(), node({ name: "gpu", devices: cuda })], { backend: "cuda", device: 3 });
  assertEquals(third.kind === "never" && third.code, "DEVICE_NOT_FOUND");
  assertEquals(at([node()], { backend: "cuda" }, { settling: true }).kind, "wait");
  const silent = node({ name: "gpu", devices: cuda, presence: "stale" });
  assertEquals(at([node(), silent], { backend: "cuda" }).kind, "wait");
  assertEquals(at([node(), node({ name: "new", devices: [] })], { backend: "cuda" }).kind, "wait");
});

Deno.test("a file is loaded where it is: another machine's room for it does not count", () => {
  const model = "file:/models/own.gguf";
  const small = [{ backend: "cpu" as const, index: 0, freeMb: 10, totalMb: 16_000 }];
  const holder = node({ name: "mac", devices: small, models: new Map([[model, 4e9]]) });
  const at = (nodes: NodeView[], over: Partial<ClusterView> = { sizeOf: () => 4e9 }) =>
    place({ model }, cluster(nodes, over), 0);
  const full = at([node(), holder]);
  assertEquals(full.kind, "wait");
  assertMatch(full.why, /mac: .* needs 4,800 MB, cpu:0 has 10 MB free/);
  const tooSmall = { ...holder, devices: [{ ...small[0], totalMb: 1_000 }] };
  const never = at([node(), tooSmall]);
  assertEquals(never.kind === "never" && never.code, "INSUFFICIENT_RAM");
  // Nobody has listed it: it may still lie there.
  assertEquals(at([node()], {}).kind, "load");
});

Deno.test("a key's machines are all there are for its requests, whatever is free elsewhere", () => {
  const decide = (names: string[], wish: Partial<Wish> = {}) => {
    const nodes = new Set(names);
    const there = [node({ name: "a", workers: [worker({ node: "a" })] }), node({ name: "b" })];
    return place({ ...WISH, nodes, ...wish }, cluster(there), 0);
  };
  const free = decide(["a"]);
  assertEquals(free.kind === "run" && free.worker.node, "a");
  const elsewhere = decide(["b", "c"]);
  assertEquals(elsewhere.kind === "load" && elsewhere.node, "b");
  const nowhere = decide(["c"]);
  assert(nowhere.kind === "never");
  assertEquals([nowhere.code, nowhere.why], [
    "NODE_UNREACHABLE",
    "No machine of this key has reported to this queen.",
  ]);
  const told = explain(
    { ...WISH, nodes: new Set(["b"]) },
    cluster([node({ name: "a" }), node({ name: "b" })]),
    0,
  );
  assertEquals(told.nodes.map((one) => one.node), ["b"]);
});

Deno.test("nothing is downloaded for a key that may not: a model of the hub is loaded where its files are", () => {
  const decide = (model: string, at: NodeView[], over: Partial<ClusterView> = {}) =>
    place({ model, downloads: false }, cluster(at, over), 0);
  const hub = "hf:acme/bee:Q8_0";
  const has = node({ name: "has", models: new Map([[hub, 1]]), loads: 1 });
  const there = decide(hub, [node({ name: "empty" }), has]);
  assertEquals(there.kind === "load" && there.node, "has");
  const nowhere = decide(hub, [node({ name: "empty" })]);
  assert(nowhere.kind === "never");
  assertEquals(nowhere.code, "MODEL_NOT_FOUND");
  assertMatch(nowhere.why, /nothing is downloaded for this key/);
  assertEquals(decide(hub, [node({ name: "empty" })], { settling: true }).kind, "wait");
  assertEquals(decide("builtin:stories", [node()]).kind, "load");
});

Deno.test("memory that is kept for other programs is named where it stands in the way", () => {
  const devices = (freeMb: number, reserveMb: number) => [
    { backend: "cpu" as const, index: 0, freeMb, totalMb: 16_000, reserveMb },
  ];
  const at = (freeMb: number, reserveMb: number, bytes?: number) => {
    const only = cluster([node({ devices: devices(freeMb, reserveMb) })], { sizeOf: () => bytes });
    return { ...place(WISH, only, 0), told: explain(WISH, only, 0).nodes[0] };
  };
  for (const bytes of [undefined, 1e9]) {
    const touched = at(-2_404, 8_000, bytes);
    assertEquals(touched.kind, "wait");
    assertMatch(touched.told.why, /has 0 MB free, after the 8,000 MB that are kept .*hive\.reserve_mb/);
    assertMatch(touched.told.remedy!, /lower hive\.reserve_mb/);
    const all = at(-10_000, 20_000, bytes);
    assertEquals(all.kind === "never" && all.code, "INSUFFICIENT_RAM");
    assertMatch(all.why, /Lower hive\.reserve_mb there: the whole device has 16,000 MB/);
  }
});

Deno.test("explain has a word on every machine, and says what would help", () => {
  const nodes = [
    node({ name: "free", workers: [worker({ id: "w1" })] }),
    node({ name: "busy", workers: [worker({ id: "w2", busy: 4 })] }),
    node({ name: "small", devices: [{ backend: "cpu", index: 0, freeMb: 10, totalMb: 20 }] }),
    node({ name: "gone", presence: "down" }),
  ];
  const told = explain(WISH, cluster(nodes, { sizeOf: () => 4e9 }), 0);
  assertEquals(told.decision, "run");
  assertEquals(told.nodes.map(({ verdict }) => verdict), ["serves", "busy", "no", "no"]);
  assertMatch(told.nodes[2].why, /needs 4,800 MB, cpu:0 has 10 MB free/);
  assertMatch(told.nodes[2].remedy!, /smaller quantisation/);
  assertMatch(told.nodes[3].why, /down/);
});

Deno.test("whatever the cluster, work only goes to a ready worker of its model with a free slot on a machine that is up", () => {
  const anyWorker = fc.record({
    model: fc.constantFrom("m", "x"),
    state: fc.constantFrom("ready" as const, "loading" as const, "leaving" as const),
    busy: fc.integer({ min: 0, max: 4 }),
    backend: fc.constantFrom("cpu" as const, "cuda" as const),
  });
  const anyNode = fc.record({
    presence: fc.constantFrom("up" as const, "stale" as const, "down" as const),
    workers: fc.array(anyWorker, { maxLength: 4 }),
  });
  const anyWish = fc.record({
    node: fc.option(fc.constantFrom("n0", "n1"), { nil: undefined }),
    backend: fc.option(fc.constantFrom("cpu" as const, "cuda" as const), { nil: undefined }),
  });
  fc.assert(fc.property(fc.array(anyNode, { maxLength: 3 }), anyWish, (drawn, wish) => {
    const nodes = drawn.map(({ presence, workers }, i) =>
      node({
        name: `n${i}`,
        presence,
        workers: workers.map((one, j) => worker({ ...one, id: `w${i}-${j}`, node: `n${i}` })),
      })
    );
    const decision = place({ ...WISH, ...wish }, cluster(nodes), 0);
    const fitting = nodes.filter(({ presence, name }) => presence === "up" && (wish.node ?? name) === name)
      .flatMap(({ workers }) => [...workers])
      .filter(({ model, state, busy, backend }) =>
        model === "m" && state === "ready" && busy < 4 && (wish.backend ?? backend) === backend
      );
    assertEquals(decision.kind === "run", fitting.length > 0);
    if (decision.kind === "run") assert(fitting.includes(decision.worker));
    assert(decision.why.length > 0);
  }));
});

Deno.test("a machine that is passed over for its room alone would not have taken the model, nor is more told of it", () => {
  const anyWorker = fc.record({
    state: fc.constantFrom("ready" as const, "loading" as const),
    busy: fc.integer({ min: 0, max: 1 }),
    pinned: fc.boolean(),
    memoryMb: fc.constantFrom(500, 2_000, 5_000),
    backend: fc.constantFrom("cpu" as const, "cuda" as const),
  });
  const anyDevice = fc.record({
    backend: fc.constantFrom("cpu" as const, "cuda" as const),
    index: fc.constant(0),
    freeMb: fc.constantFrom(-100, 0, 1_000, 8_000),
    totalMb: fc.constantFrom(2_000, 9_000, 20_000),
  });
  const anyNode = fc.record({
    presence: fc.constantFrom("up" as const, "up" as const, "stale" as const),
    cordoned: fc.constantFrom(false, false, true),
    loads: fc.constantFrom(0, 0, 2),
    workers: fc.array(anyWorker, { maxLength: 3 }),
    devices: fc.array(anyDevice, { maxLength: 2 }),
    ownBytes: fc.option(fc.constantFrom(1e9, 6e9, 3e10), { nil: undefined }),
  });
  const anyWish = fc.record({
    backend: fc.option(fc.constantFrom("cpu" as const, "cuda" as const), { nil: undefined }),
    grow: fc.boolean(),
    model: fc.constantFrom("hf:a/b", "file:/a"),
  });
  const bytes = fc.option(fc.constantFrom(1e9, 6e9, 3e10), { nil: undefined });
  fc.assert(
    fc.property(fc.array(anyNode, { maxLength: 5 }), anyWish, bytes, (drawn, wish, bytes) => {
      const nodes = drawn.map(({ workers, ownBytes, ...over }, i) =>
        node({
          ...{ name: `n${i}`, ...over },
          models: new Map(ownBytes === undefined ? [] : [[wish.model, ownBytes]]),
          workers: workers.map((one, j) => worker({ ...one, id: `w${i}-${j}`, node: `n${i}` })),
        })
      );
      const decide = (nodes: readonly NodeView[]) => place(wish, cluster(nodes, { sizeOf: () => bytes }), 0);
      assertEquals(decide(nodes), decide(nodes.map((one) => ({ ...one, roomMb: Infinity }))));
    }),
    { numRuns: 1_000 },
  );
});

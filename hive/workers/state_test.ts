import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { WorkerState } from "../../protocol/hive_schemas.ts";
import { isUsable, nextState, type WorkerHappening } from "./state.ts";

const HAPPENINGS: WorkerHappening[] = [
  "called_back",
  "became_idle",
  "became_busy",
  "stop_asked",
  "gave_up",
  "exited",
  "forgotten",
];

function walk(...happenings: WorkerHappening[]): WorkerState {
  return happenings.reduce<WorkerState>(
    (state, happening) => nextState(state, happening) ?? state,
    "starting",
  );
}

Deno.test("a worker starts, loads, works and leaves", () => {
  assertEquals(walk("called_back"), "loading");
  assertEquals(walk("called_back", "became_idle"), "idle");
  assertEquals(walk("called_back", "became_idle", "became_busy"), "busy");
  assertEquals(walk("called_back", "became_idle", "stop_asked"), "draining");
  assertEquals(walk("called_back", "became_idle", "stop_asked", "exited"), "gone");
});

Deno.test("a worker that dies is gone, but one that dies while loading stays to tell why", () => {
  assertEquals(walk("exited"), "gone");
  assertEquals(walk("called_back", "exited"), "failed");
  assertEquals(walk("called_back", "became_idle", "exited"), "gone");
  assertEquals(walk("called_back", "gave_up", "exited"), "failed");
  assertEquals(walk("called_back", "gave_up", "exited", "forgotten"), "gone");
});

Deno.test("late news changes nothing", () => {
  assertEquals(nextState("draining", "became_idle"), undefined);
  assertEquals(nextState("draining", "gave_up"), undefined);
  assertEquals(nextState("failed", "became_idle"), undefined);
  assertEquals(nextState("starting", "became_idle"), undefined);
  assertEquals(nextState("loading", "called_back"), undefined);
});

Deno.test("whatever happens: nothing leaves gone, and nothing that was not usable becomes usable again", () => {
  fc.assert(fc.property(fc.array(fc.constantFrom(...HAPPENINGS)), (happenings) => {
    let state: WorkerState = "starting";
    for (const happening of happenings) {
      const next: WorkerState = nextState(state, happening) ?? state;
      if (state === "gone") assertEquals(next, "gone");
      if (!isUsable(state)) assertEquals(isUsable(next), false);
      state = next;
    }
  }));
});

Deno.test("from every state but gone some way leads to gone", () => {
  for (const state of WorkerState.options.filter((at) => at !== "gone")) {
    const ends = [nextState(state, "exited"), nextState(state, "forgotten")];
    assertEquals(ends.includes("gone") || ends.includes("failed"), true, state);
  }
});

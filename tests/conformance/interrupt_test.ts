/** Ctrl+C in every phase: the hive is idle afterwards, nothing is half-made, and the next run works. */
import { assertEquals } from "@std/assert";
import { eventually } from "../helpers/eventually.ts";
import { STORIES } from "../helpers/test_models.ts";
import { type Given, given, INFER, masked, STORY, type World } from "./scenario.ts";

const BEE = [...INFER, "--model", "hf:acme/bee", "--slots", "1"];

/** Types a command, interrupts it once `when` holds, and sees to what is left. */
function interrupted(
  name: string,
  what: Given,
  when: {
    shows: ["stdout" | "stderr", string];
    before?: (world: World) => Promise<() => Promise<void>>;
    says: string;
  },
): void {
  Deno.test(`Ctrl+C during ${name}: the hive is idle, nothing is half-made, and the next run works`, () =>
    given(what, async (world) => {
      const { hive, start, type } = world;
      const after = await when.before?.(world);
      const infer = start(...BEE);
      await infer.shows(...when.shows);
      infer.signal("SIGINT");
      const { code, stderr } = await infer.finished;
      assertEquals([code, masked(stderr).trimEnd().split("\n").at(-1)], [130, when.says]);
      await after?.();
      await eventually("an idle hive", async () => {
        const { workers } = await hive.client.workers();
        return workers.every(({ state, slots_available, slots_total }) =>
          state === "idle" && slots_available === slots_total
        );
      });
      const again = await type(...BEE);
      assertEquals([again.code, again.stdout], [0, `${STORY}\n`], again.stderr);
      const { workers } = await hive.client.workers();
      assertEquals([workers.length, workers[0].state], [1, "idle"]);
    }));
}

interrupted(
  "a download",
  {
    hub: {
      repos: { "acme/bee": { files: { "bee-Q4_K_M.gguf": { path: STORIES } } } },
      bytesPerSecond: 300_000,
    },
  },
  { shows: ["stderr", "Downloading"], says: "Canceled. What was downloaded is kept for the next try." },
);
interrupted("a load", { worker: { loadMs: 1500 } }, {
  shows: ["stderr", "Loading"],
  says: "Canceled. The worker goes on loading and will be there for the next command.",
});
interrupted("the wait for a slot", { worker: { tokenMs: 100 } }, {
  before: async ({ start }) => {
    const first = start(...BEE);
    await first.shows("stdout", "Once");
    return async () => {
      const { code, stdout } = await first.finished;
      assertEquals([code, stdout], [0, `${STORY}\n`]);
    };
  },
  shows: ["stderr", "Trying again"],
  says: "Canceled.",
});
interrupted("an answer", { worker: { tokenMs: 50 } }, { shows: ["stdout", "upon"], says: "Canceled." });

/** Models that lie where nothing can be read at present: the hive and all other models go on. Linux only. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { runKeeper } from "../keeper/testing/keeper_process.ts";
import { RbeeError } from "../protocol/errors.ts";
import { startHive } from "./helpers/daemons.ts";
import { keeperHome } from "./helpers/keeper_home.ts";
import { oddFolder, type Oddity } from "./helpers/odd_folder.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";

const REASONS: Record<Oddity, RegExp> = {
  hang: /its disk has not answered for 3 s/,
  denied: /permission denied/,
};
/** A person's patience. */
const PATIENCE_MS = 5_000;

/** What `work` resolves to; it takes no longer than a person waits. */
async function soon<T>(what: string, work: () => Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  try {
    return await Promise.race([work(), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

for (const is of ["hang", "denied"] as const) {
  Deno.test({
    name: `a model on a disk that is ${
      is === "hang" ? "gone" : "closed to rbee"
    } is a state of that model alone`,
    ignore: Deno.build.os !== "linux",
    async fn() {
      await using home = await tempHome();
      const folder = join(home.path, "mount");
      const paths = ["a.gguf", "b.gguf"].map((name) => join(folder, name));
      await Deno.mkdir(folder);
      for (const path of paths) await Deno.copyFile(STORIES, path);
      const refs = paths.map((path) => `file:${path}`);
      {
        await using before = await startHive({ home, worker: { mode: "normal" } });
        for (const ref of [...refs, "builtin:stories"]) await before.client.download(ref);
        await before.stop();
      }
      const env = await oddFolder(folder, { is, buildFolder: home.path });
      await using hive = await startHive({ home, worker: { mode: "normal" }, env });
      const { client } = hive;
      const { models } = await soon("list", () => client.models());
      const away = models.filter(({ unreachable }) => unreachable !== undefined);
      assertEquals([models.length, away.map(({ reference }) => reference)], [3, refs]);
      for (const { unreachable } of away) assertMatch(unreachable!, REASONS[is]);
      // All that it has to do with other models works.
      await soon("pruning", () => client.pruneModels({ keep_gb: 0, dry_run: false }));
      const { state } = await soon("worker", () => client.spawn({ model_ref: "builtin:stories" }));
      assert(state !== "failed");
      const refusal = await soon(
        "refusal",
        () => assertRejects(() => client.spawn({ model_ref: refs[0] }), RbeeError),
      );
      assertEquals(refusal.code, "MODEL_UNREACHABLE");
      assertMatch(refusal.message, /Check that its disk is mounted/);

      await using keeper = await keeperHome({ mac: hive }, { node: "mac" });
      const list = await soon("models list", () => runKeeper(["models", "list"], { home: keeper }));
      assertEquals(list.code, 0);
      assertMatch(list.stdout, /a\.gguf/);
      assertMatch(list.stderr, REASONS[is]);
      const rm = await soon("models rm", () => runKeeper(["models", "rm", refs[0]], { home: keeper }));
      assertEquals(rm.code, 0, rm.stderr);
      const left = (await client.models()).models.map(({ reference }) => reference);
      assertEquals(left.sort(), ["builtin:stories", refs[1]]);
      await hive.stop();

      // The disk is back.
      await using after = await startHive({ home, worker: { mode: "normal" } });
      const back = (await after.client.models()).models;
      assertEquals(back.map(({ unreachable }) => unreachable), [undefined, undefined]);
    },
  });
}

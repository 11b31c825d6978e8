import { assertEquals, assertRejects } from "@std/assert";
import { type Config, ConfigSchema } from "../home/config_schema.ts";
import { RbeeError } from "../protocol/errors.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { LiveConfig } from "./live_config.ts";

const STORIES = { "builtin:stories": { keep_loaded: true } };
const parse = (config: Record<string, unknown>) => ConfigSchema.parse(config);

function liveConfig(load: () => Promise<Config>) {
  const changes: Config[] = [];
  const kept = keptLog();
  const live = new LiveConfig({
    config: parse({ queen: { queue_limit: 5 } }),
    ...{ load, log: kept.log, onChange: (config) => void changes.push(config) },
  });
  return { live, changes, kept };
}

Deno.test("changed models and keys count at once, and what has to wait for the next start is named", async () => {
  const next = parse({
    api_key: "a-secret-of-mine",
    queen: { queue_limit: 6, models: STORIES },
    hive: { name: "x" },
  });
  const { live, changes, kept } = liveConfig(() => Promise.resolve(next));
  const { restart_needed } = await live.reload();
  assertEquals(restart_needed.sort(), ["api_key", "queen.queue_limit"]);
  assertEquals([live.models["builtin:stories"].keep_loaded, changes], [true, [next]]);
  assertEquals(kept.text().includes("a-secret-of-mine"), false);
});

Deno.test("a faulty configuration changes nothing, and what is wrong with it is told and logged", async () => {
  const { live, changes, kept } = liveConfig(() =>
    Promise.reject(new RbeeError("INVALID_REQUEST", "config.yaml: queen.keys: what is wrong"))
  );
  const error = await assertRejects(() => live.reload(), RbeeError);
  assertEquals([error.message, live.models, changes], ["config.yaml: queen.keys: what is wrong", {}, []]);
  assertEquals(kept.lines.map(({ level, reason }) => [level, reason]), [["error", error.message]]);
});

import { assertEquals } from "@std/assert";
import { ID_CASES, MODELS } from "../bench/id_cases.ts";
import { findModel } from "../tests/helpers/test_models.ts";
import {
  answerIds,
  greedyDifference,
  idDifference,
  type IdFixture,
  isPlainGreedy,
  kernelProbe,
  loadIdEngine,
} from "../tests/helpers/token_ids.ts";
import recorded from "../tests/fixtures/token_ids.json" with { type: "json" };

const fixture = recorded as IdFixture;
const expected = new Map(fixture.cases.map((each) => [each.name, each]));

Deno.test("fifty cases have recorded token ids", () => {
  assertEquals(ID_CASES.length, 50);
  assertEquals(fixture.cases.map(({ name }) => name), ID_CASES.map(({ name }) => name));
});

for (const model of Object.values(MODELS)) {
  const path = findModel(model);
  Deno.test({
    name: `${model}: the token ids are those llama-server gave`,
    ignore: path === undefined,
    fn: async (t) => {
      const engine = await loadIdEngine(path!);
      try {
        const probe = await kernelProbe(engine);
        const sameKernels = probe.every((logprob, i) => logprob === fixture.probes[model][i]);
        for (const idCase of ID_CASES.filter((each) => each.model === model)) {
          await t.step({
            name: sameKernels
              ? idCase.name
              : `${idCase.name} (up to a near-tie: recorded with other kernels)`,
            // `deno task bench:ids` compares it live.
            ignore: !sameKernels && !isPlainGreedy(idCase),
            fn: async () => {
              const theirs = expected.get(idCase.name)!;
              const difference = sameKernels
                ? idDifference(await answerIds(engine, idCase), theirs)
                : await greedyDifference(engine, idCase, theirs);
              assertEquals(difference, undefined);
            },
          });
        }
      } finally {
        await engine.close();
      }
    },
  });
}

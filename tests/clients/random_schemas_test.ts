/** Answers to schemas made up at random satisfy them, whole and streamed. */
import { assert, assertEquals } from "@std/assert";
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { startWorker } from "../helpers/worker_process.ts";
import { ASKED, clientOf, textOf } from "./openai_bed.ts";

type Schema = Record<string, unknown>;

const SCHEMAS = 500;

/** Bounded in every way, so that an answer ends within the context of a story model. */
const { schema: anySchema } = fc.letrec<{ schema: Schema }>((tie) => {
  const text = fc.stringMatching(/^[a-z]{1,6}$/);
  const range = (min: number, max: number) =>
    fc.tuple(fc.integer({ min, max }), fc.integer({ min, max })).map((
      [a, b],
    ) => [Math.min(a, b), Math.max(a, b)]);
  const leaves = [
    fc.constant<Schema>({ type: "boolean" }),
    fc.constant<Schema>({ type: "null" }),
    fc.uniqueArray(text, { minLength: 1, maxLength: 4 }).map((words): Schema => ({ enum: words })),
    fc.oneof(text, fc.integer(), fc.boolean()).map((value): Schema => ({ const: value })),
    range(-200, 200).map(([minimum, maximum]): Schema => ({ type: "integer", minimum, maximum })),
    range(0, 12).map(([minLength, maxLength]): Schema => ({ type: "string", minLength, maxLength })),
    fc.constantFrom("date", "time", "uuid").map((format): Schema => ({ type: "string", format })),
    fc.constantFrom("^[a-c]{2,4}$", "^x-[0-9]{3}$").map((pattern): Schema => ({ type: "string", pattern })),
  ];
  const properties = fc.uniqueArray(fc.tuple(text, tie("schema")), {
    maxLength: 4,
    selector: ([name]) => name,
  });
  const object = fc.tuple(properties, fc.array(fc.boolean(), { minLength: 4, maxLength: 4 })).map((
    [entries, required],
  ): Schema => ({
    type: "object",
    properties: Object.fromEntries(entries),
    required: entries.filter((_, i) => required[i]).map(([name]) => name),
    additionalProperties: false,
  }));
  const array = fc.tuple(tie("schema"), range(0, 3)).map(([items, [minItems, maxItems]]): Schema => ({
    type: "array",
    items,
    minItems,
    maxItems,
  }));
  const either = fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf): Schema => ({ anyOf }));
  return { schema: fc.oneof({ maxDepth: 2, withCrossShrink: true }, ...leaves, object, array, either) };
});

Deno.test(`answers satisfy ${SCHEMAS} random schemas`, async () => {
  await using worker = await startWorker();
  const client = clientOf(worker);
  const ajv = new Ajv2020({ strict: false, validateFormats: false });
  let streamed = 0;
  await fc.assert(
    fc.asyncProperty(anySchema, fc.boolean(), fc.nat(), async (schema, stream, seed) => {
      const ask = {
        model: "any",
        messages: ASKED,
        seed,
        temperature: 1,
        response_format: { type: "json_schema" as const, json_schema: { name: "x", strict: true, schema } },
      };
      let text: string;
      if (stream) {
        streamed++;
        ({ text } = await textOf(await client.chat.completions.create({ ...ask, stream })));
      } else {
        const { choices: [{ message, finish_reason }] } = await client.chat.completions.create(ask);
        assertEquals(finish_reason, "stop");
        text = message.content!;
      }
      const validate = ajv.compile(schema);
      assert(validate(JSON.parse(text)), `${text}: ${ajv.errorsText(validate.errors)}`);
    }),
    { numRuns: SCHEMAS, seed: 7, endOnFailure: true },
  );
  assert(streamed > SCHEMAS / 3);
});

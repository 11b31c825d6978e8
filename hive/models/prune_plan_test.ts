import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { planPrune, type PruneCandidate } from "./prune_plan.ts";

/** Few files and few times, so that names are shared and times collide. */
const candidates: fc.Arbitrary<PruneCandidate[]> = fc.array(
  fc.record({
    provider: fc.constantFrom(
      "hf" as const,
      "hf" as const,
      "hf" as const,
      "file" as const,
      "builtin" as const,
    ),
    files: fc.integer({ min: 0, max: 8 }),
    last_used_at_unix: fc.option(fc.integer({ min: 0, max: 20 })),
    downloaded_at_unix: fc.integer({ min: 0, max: 20 }),
    in_use: fc.boolean(),
  }),
  { maxLength: 14 },
).map((rows) =>
  rows.map((row, i) => ({
    ...row,
    reference: `m${i}`,
    files: `/blobs/${row.files}`,
    // The same files have the same size.
    size_bytes: (row.files + 1) * 100,
  }))
);
const keepBytes = fc.integer({ min: 0, max: 4_500 });

function candidate(change: Partial<PruneCandidate>): PruneCandidate {
  return {
    ...{ provider: "hf", reference: "hf:a/b", files: "/blobs/1", size_bytes: 100, in_use: false },
    ...{ last_used_at_unix: null, downloaded_at_unix: 10 },
    ...change,
  };
}

Deno.test("what is in use or somebody's own file is never removed, under any of its names", () => {
  fc.assert(fc.property(candidates, keepBytes, (rows, keep) => {
    const removed = new Set(planPrune(rows, keep).remove.flatMap(({ references }) => references));
    const touched = new Set(rows.filter(({ reference }) => removed.has(reference)).map(({ files }) => files));
    for (const row of rows) {
      if (row.in_use || row.provider !== "hf") assert(!touched.has(row.files), row.reference);
      assertEquals(removed.has(row.reference), touched.has(row.files));
    }
  }));
});

Deno.test("the rest fits, or nothing more may go; and not one model went too many", () => {
  fc.assert(fc.property(candidates, keepBytes, (rows, keep) => {
    const { remove, keep: kept, keptBytes } = planPrune(rows, keep);
    assertEquals(keptBytes, kept.reduce((sum, { size_bytes }) => sum + size_bytes, 0));
    assert(keptBytes <= keep || kept.every(({ reason }) => reason !== "fits"));
    const last = remove.at(-1);
    if (last !== undefined) assert(keptBytes + last.size_bytes > keep);
  }));
});

Deno.test("whatever goes was used no later than whatever could have gone and stays", () => {
  fc.assert(fc.property(candidates, keepBytes, (rows, keep) => {
    const { remove, keep: kept } = planPrune(rows, keep);
    const usedAt = (references: readonly string[]) =>
      Math.max(
        ...rows.filter(({ reference }) => references.includes(reference))
          .map((row) => Math.max(row.last_used_at_unix ?? 0, row.downloaded_at_unix)),
      );
    const latestGone = Math.max(-1, ...remove.map(({ references }) => usedAt(references)));
    for (const group of kept) if (group.reason === "fits") assert(usedAt(group.references) >= latestGone);
    assertEquals(remove.map(({ references }) => usedAt(references)).toSorted((a, b) => a - b), [
      ...remove.map(({ references }) => usedAt(references)),
    ]);
  }));
});

Deno.test("every hub model is decided on once, and what stays would stay again", () => {
  fc.assert(fc.property(candidates, keepBytes, (rows, keep) => {
    const plan = planPrune(rows, keep);
    const decided = [...plan.remove, ...plan.keep].flatMap(({ references }) => references);
    assertEquals(new Set(decided).size, decided.length);
    for (const { provider, reference } of rows) assert(provider !== "hf" || decided.includes(reference));
    const left = rows.filter(({ reference }) =>
      !plan.remove.some(({ references }) => references.includes(reference))
    );
    assertEquals(planPrune(left, keep), { ...plan, remove: [] });
  }));
});

Deno.test("two names of the same files are one model: counted once, as young as its latest use", () => {
  const rows = [
    candidate({ reference: "hf:a/b", last_used_at_unix: 20 }),
    candidate({ reference: "hf:a/b:Q4_0" }),
    candidate({ reference: "hf:c/d", files: "/blobs/2", last_used_at_unix: 15 }),
  ];
  assertEquals(planPrune(rows, 200).remove, []);
  assertEquals(planPrune(rows, 199), {
    remove: [{ references: ["hf:c/d"], size_bytes: 100, last_used_at_unix: 15 }],
    keep: [{ references: ["hf:a/b", "hf:a/b:Q4_0"], size_bytes: 100, last_used_at_unix: 20, reason: "fits" }],
    keptBytes: 100,
  });
});

Deno.test("a model that was never used counts from the time it came", () => {
  const rows = [
    candidate({ reference: "hf:a/new", files: "/blobs/1", downloaded_at_unix: 30 }),
    candidate({ reference: "hf:a/old", files: "/blobs/2", last_used_at_unix: 20 }),
  ];
  assertEquals(planPrune(rows, 100).remove.map(({ references }) => references), [["hf:a/old"]]);
});

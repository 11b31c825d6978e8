import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { DatabaseSync } from "node:sqlite";
import { keptLog } from "../../tests/helpers/log_lines.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { Catalog, type NewModel } from "./catalog.ts";

const MODEL: NewModel = {
  ...{ provider: "hf", reference: "hf:acme/tiny", revision: "a".repeat(40), local_path: "/cache/m.gguf" },
  ...{ size_bytes: 100, sha256: null, downloaded_at_unix: 10, companions: ["mmproj.gguf"] },
};

async function withCatalog(test: (catalog: Catalog) => void): Promise<void> {
  await using home = await tempHome();
  const catalog = new Catalog(home.rbeeHome, keptLog().log);
  try {
    test(catalog);
  } finally {
    catalog.close();
  }
}

Deno.test("a row that is replaced keeps what is known of the same file, and forgets it with another file", () =>
  withCatalog((catalog) => {
    const { id } = catalog.put(MODEL);
    catalog.used(MODEL.local_path, 20);
    catalog.verified(MODEL.reference, { atUnix: 30, sha256: null, digests: ["d1", "d2"] });
    const known = { ...MODEL, id, last_used_at_unix: 20, verified_at_unix: 30 };
    assertEquals(catalog.get(MODEL.reference), known);

    const moved = { local_path: "/elsewhere/m.gguf", downloaded_at_unix: 40 };
    assertEquals(catalog.put({ ...MODEL, ...moved }), { ...known, ...moved });
    assertEquals(catalog.recordedDigests(MODEL.reference), ["d1", "d2"]);

    for (const change of [{ size_bytes: 101 }, { revision: "b".repeat(40) }]) {
      const changed = catalog.put({ ...MODEL, ...change });
      assertEquals([changed.last_used_at_unix, changed.verified_at_unix], [null, null]);
      assertEquals(catalog.recordedDigests(MODEL.reference), []);
      catalog.put(MODEL);
      catalog.used(MODEL.local_path, 20);
    }
  }));

Deno.test("a use counts for all names of a file and for no other file", () =>
  withCatalog((catalog) => {
    catalog.put(MODEL);
    catalog.put({ ...MODEL, reference: "hf:acme/tiny:Q4_0" });
    catalog.put({ ...MODEL, reference: "hf:acme/other", local_path: "/cache/other.gguf" });
    catalog.used(MODEL.local_path, 20);
    const uses = catalog.all().map((model) => [model.reference, model.last_used_at_unix]);
    assertEquals(uses, [["hf:acme/other", null], ["hf:acme/tiny", 20], ["hf:acme/tiny:Q4_0", 20]]);
  }));

Deno.test("a catalog of the first version is read on, with nothing known of uses", async () => {
  await using home = await tempHome();
  const database = new DatabaseSync(join(home.rbeeHome, "models.db"));
  database.exec(
    `CREATE TABLE models (id TEXT PRIMARY KEY, provider TEXT NOT NULL, reference TEXT NOT NULL UNIQUE,
    revision TEXT, local_path TEXT NOT NULL, size_bytes INTEGER NOT NULL, sha256 TEXT,
    downloaded_at_unix INTEGER NOT NULL) STRICT;
    INSERT INTO models VALUES ('1', 'hf', 'hf:acme/tiny', NULL, '/cache/m.gguf', 100, NULL, 10);
    PRAGMA user_version = 1`,
  );
  database.close();
  const catalog = new Catalog(home.rbeeHome, keptLog().log);
  const [row] = catalog.all();
  assertEquals([row.reference, row.companions], ["hf:acme/tiny", []]);
  assertEquals([row.last_used_at_unix, row.verified_at_unix], [null, null]);
  catalog.close();
});

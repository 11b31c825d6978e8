import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { raceInProcesses } from "../tests/helpers/racing.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { openDatabase, openOrBegin, transaction } from "./database.ts";

const FIRST = "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)";
const SECOND = "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = 'moved'";

async function inTempDir(body: (path: string) => void | Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(`${dir}/x.db`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function rows(path: string, migrations: readonly string[]): unknown {
  using database = openDatabase(path, migrations);
  return database.prepare("SELECT * FROM a").all().map((row) => ({ ...row }));
}

Deno.test("database, write-ahead log and shared memory are for the owner alone, whatever the umask", () =>
  inTempDir((path) => {
    const before = Deno.umask(0);
    try {
      using database = openDatabase(path, [FIRST]);
      database.exec("INSERT INTO a VALUES (2)");
      for (const suffix of ["", "-wal", "-shm"]) {
        assertEquals(Deno.statSync(path + suffix).mode! & 0o777, 0o600, suffix);
      }
    } finally {
      Deno.umask(before);
    }
  }));

Deno.test("the settings are those that every part relies on", () =>
  inTempDir((path) => {
    using database = openDatabase(path, []);
    const pragma = (name: string) => Object.values(database.prepare(`PRAGMA ${name}`).get()!)[0];
    assertEquals(pragma("journal_mode"), "wal");
    assertEquals(pragma("foreign_keys"), 1);
    assertEquals(pragma("busy_timeout"), 5000);
    assertEquals(pragma("synchronous"), 1);
  }));

Deno.test("migrations run once each and in order, over several versions of the program", () =>
  inTempDir((path) => {
    assertEquals(rows(path, [FIRST]), [{ x: 1 }]);
    assertEquals(rows(path, [FIRST]), [{ x: 1 }]);
    assertEquals(rows(path, [FIRST, SECOND]), [{ x: 1, y: "moved" }]);
    assertEquals(rows(path, [FIRST, SECOND]), [{ x: 1, y: "moved" }]);
  }));

Deno.test("several migrations at once are the same as one after the other", () =>
  inTempDir((path) => assertEquals(rows(path, [FIRST, SECOND]), [{ x: 1, y: "moved" }])));

Deno.test("a migration that fails changes nothing, and the next start can do it again", () =>
  inTempDir((path) => {
    rows(path, [FIRST]);
    const broken = "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1)";
    const error = assertThrows(() => openDatabase(path, [FIRST, SECOND, broken]), Error, "nowhere");
    assertStringIncludes(error.message, path);
    assertEquals(rows(path, [FIRST]), [{ x: 1 }]);
    assertEquals(rows(path, [FIRST, SECOND, "CREATE TABLE b (x)"]), [{ x: 1, y: "moved" }]);
  }));

Deno.test("a database of a newer version is refused by name and left as it is", () =>
  inTempDir((path) => {
    rows(path, [FIRST, SECOND]);
    const error = assertThrows(() => openDatabase(path, [FIRST]), Error, "newer");
    assertStringIncludes(error.message, path);
    assertStringIncludes(error.message, "Upgrade");
    assertEquals(rows(path, [FIRST, SECOND]), [{ x: 1, y: "moved" }]);
  }));

Deno.test("a file that is no database is refused by name and left as it is", () =>
  inTempDir((path) => {
    Deno.writeTextFileSync(path, "no database ".repeat(100));
    const error = assertThrows(() => openDatabase(path, [FIRST]), Error, "not a database");
    assertStringIncludes(error.message, path);
    assertStringIncludes(Deno.readTextFileSync(path), "no database");
  }));

Deno.test("processes that create and migrate one database at the same moment all succeed, each step runs once", async () => {
  for (let round = 0; round < 3; round++) {
    await inTempDir(async (path) => {
      const outputs = await raceInProcesses(
        `const database = openDatabase(${JSON.stringify(path)}, ${JSON.stringify([FIRST, SECOND])});
         console.log(JSON.stringify(database.prepare("SELECT * FROM a").all()));
         database.close();`,
        { count: 4, modules: { openDatabase: new URL("./database.ts", import.meta.url).href } },
      );
      for (const output of outputs) assertEquals(JSON.parse(output), [{ x: 1, y: "moved" }]);
    });
  }
});

Deno.test("a new database that another program is writing to is waited for", () =>
  inTempDir(async (path) => {
    using other = new DatabaseSync(path);
    other.exec("CREATE TABLE t (x); BEGIN IMMEDIATE");
    const opened = raceInProcesses(
      `Deno.writeTextFileSync(${JSON.stringify(path + ".trying")}, "");
       openDatabase(${JSON.stringify(path)}, ${JSON.stringify([FIRST])}).close();
       console.log("opened");`,
      { count: 1, modules: { openDatabase: new URL("./database.ts", import.meta.url).href } },
    );
    await eventually("the other process to try", () => existsSync(path + ".trying"));
    // There is no sign of a process that waits; it fails or waits within a millisecond of its try.
    setTimeout(() => other.exec("ROLLBACK"), 100);
    assertEquals(await opened, ["opened\n"]);
  }));

Deno.test("a transaction gives its work's result and keeps it", () =>
  inTempDir((path) => {
    using database = openDatabase(path, [FIRST]);
    assertEquals(transaction(database, () => database.prepare("UPDATE a SET x = 5").run().changes), 1);
    assertEquals(database.isTransaction, false);
    assertEquals(rows(path, [FIRST]), [{ x: 5 }]);
  }));

Deno.test("a transaction that throws leaves nothing behind and throws its own error", () =>
  inTempDir((path) => {
    using database = openDatabase(path, [FIRST]);
    const boom = new Error("boom");
    const thrown = assertThrows(() =>
      transaction(database, () => {
        database.exec("DELETE FROM a");
        throw boom;
      })
    );
    assert(thrown === boom);
    assertEquals(database.isTransaction, false);
    assertEquals(rows(path, [FIRST]), [{ x: 1 }]);
  }));

Deno.test("an error that has ended the transaction already is not lost over the roll-back", () =>
  inTempDir((path) => {
    using database = openDatabase(path, ["CREATE TABLE a (x INTEGER UNIQUE); INSERT INTO a VALUES (1)"]);
    const insert = () => database.exec("INSERT OR ROLLBACK INTO a VALUES (1)");
    assertThrows(() => transaction(database, insert), Error, "UNIQUE");
    assertEquals(transaction(database, () => 7), 7);
  }));

Deno.test("a transaction within a transaction is refused and does not end the outer one", () =>
  inTempDir((path) => {
    using database = openDatabase(path, [FIRST]);
    transaction(database, () => {
      database.exec("UPDATE a SET x = 9");
      assertThrows(() => transaction(database, () => {}), Error, "transaction");
      assertEquals(database.isTransaction, true);
    });
    assertEquals(rows(path, [FIRST]), [{ x: 9 }]);
  }));

/** Opens and closes, and tells how the database came to be there. */
function originOf(path: string, migrations: readonly string[]) {
  const { database, origin } = openOrBegin(path, migrations);
  database.close();
  return origin;
}

Deno.test("what can be found out again is begun anew when it is damaged, and the damaged file is kept", () =>
  inTempDir((path) => {
    assertEquals(originOf(path, [FIRST]), { name: "new" });
    assertEquals(originOf(path, [FIRST]), { name: "found" });
    Deno.writeTextFileSync(path, "no database ".repeat(100));
    const origin = originOf(path, [FIRST]);
    assert(origin.name === "damaged");
    assertStringIncludes(String(origin.error), "not a database");
    assertStringIncludes(Deno.readTextFileSync(origin.movedTo), "no database");
    assertEquals(originOf(path, [FIRST]), { name: "found" });
    assertEquals(rows(path, [FIRST]), [{ x: 1 }]);
  }));

Deno.test("damage that nobody stumbles over when a database is opened is found all the same", () =>
  inTempDir((path) => {
    const pages = "CREATE TABLE a (x TEXT); CREATE INDEX i ON a (x)";
    {
      using database = openDatabase(path, [pages]);
      for (let n = 0; n < 1_000; n++) database.exec(`INSERT INTO a VALUES ('${"x".repeat(100)}${n}')`);
    }
    using file = Deno.openSync(path, { write: true });
    const { size } = Deno.statSync(path);
    file.seekSync(size / 2, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4_096).fill(0xff));
    assertEquals(originOf(path, [pages]).name, "damaged");
  }));

Deno.test("a database that is in use, or of a newer version, is not damaged: it stays where it is", () =>
  inTempDir((path) => {
    rows(path, [FIRST, SECOND]);
    assertThrows(() => openOrBegin(path, [FIRST]), Error, "newer");
    using other = new DatabaseSync(path);
    other.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE a SET x = 5");
    assertThrows(() => openOrBegin(path, [FIRST, SECOND]), Error, "Another program holds it");
    other.exec("ROLLBACK");
    other.close();
    assertEquals(rows(path, [FIRST, SECOND]), [{ x: 1, y: "moved" }]);
  }));

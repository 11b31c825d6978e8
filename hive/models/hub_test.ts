import { assert, assertEquals, assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import {
  fetchError,
  fetchModel,
  fetchPath,
  FILE,
  filesBelow,
  REF,
  REPO,
  smallestGguf,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";

const TOKEN = "hf_a-secret-token";

Deno.test("a long list of files is read page by page", async () => {
  const notes = Object.fromEntries(Array.from({ length: 25 }, (_, index) => [`notes/${index}.md`, "x"]));
  const files = { ...notes, "z/tiny-Q4_0.gguf": tinyGguf() };
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } }, treePageSize: 4 } });
  assertMatch(await fetchPath(bed.models), /\/z\/tiny-Q4_0\.gguf$/);
  assertEquals(bed.hub.requestsFor({ purpose: "tree" }).length, 7);
});

Deno.test("everything is asked of the one commit that the revision stood for", async () => {
  await using bed = await startBed();
  const old = bed.hub.head(REPO);
  bed.hub.faults.add({ kind: "status", status: 503 }, { purpose: "tree" });
  const path = await fetchPath(bed.models);
  const about = bed.hub.requests.filter((request) => request.purpose !== "info" && request.origin === "hub");
  assert(about.length >= 3);
  for (const request of about) assertStringIncludes(request.target, old);
  assertStringIncludes(path, `/snapshots/${old}/`);
});

Deno.test("branches, tags and commits can be named, and branches are noted in refs", async () => {
  await using bed = await startBed();
  const first = bed.hub.head(REPO);
  const second = bed.hub.commit(REPO, { [FILE]: tinyGguf(2) }, { branch: "next/1" });
  assertEquals(await Deno.readFile(await fetchPath(bed.models, `${REF}@next/1`)), tinyGguf(2));
  assertEquals(await Deno.readFile(await fetchPath(bed.models, `${REF}@${first}`)), tinyGguf(1));
  assertEquals(await Deno.readTextFile(`${bed.repoFolder}/refs/next/1`), second);
  assertEquals((await filesBelow(`${bed.repoFolder}/refs`)).length, 1);
});

Deno.test("a revision that is not there is named", async () => {
  await using bed = await startBed();
  const error = await fetchError(bed.models, `${REF}@nonesuch`);
  assertEquals(error.code, "MODEL_NOT_FOUND");
  assertStringIncludes(error.message, "no branch, tag or commit nonesuch");
});

Deno.test("a quantisation that is not there is answered with those that are", async () => {
  await using bed = await startBed();
  const error = await fetchError(bed.models, `${REF}:Q8_0`);
  assertEquals([error.code, error.details.available], ["MODEL_NOT_FOUND", ["Q4_K_M"]]);
});

Deno.test("a repository that is not there, asked for with a token, is MODEL_NOT_FOUND", async () => {
  await using bed = await startBed({ hub: { tokens: { [TOKEN]: [] } }, env: { HF_TOKEN: TOKEN } });
  const error = await fetchError(bed.models, "hf:acme/nonesuch");
  assertEquals(error.code, "MODEL_NOT_FOUND");
  assertStringIncludes(error.message, "acme/nonesuch");
});

Deno.test("without a token, what is missing or private says how to give one", async () => {
  await using bed = await startBed();
  const error = await fetchError(bed.models, "hf:acme/nonesuch");
  assertEquals(error.code, "MODEL_ACCESS_DENIED");
  assertMatch(error.message, /does not exist, or is private.*HF_TOKEN.*hub\.token_file/);
});

const GATED = { repos: { [REPO]: { files: { [FILE]: tinyGguf() }, gated: "manual" as const } } };

Deno.test("a gated repository without access is MODEL_ACCESS_DENIED, with the way out", async () => {
  await using bed = await startBed({ hub: GATED });
  const error = await fetchError(bed.models);
  assertEquals(error.code, "MODEL_ACCESS_DENIED");
  assertMatch(error.message, /is gated.*Ask for access.*HF_TOKEN/);

  await using other = await startBed({
    hub: { ...GATED, tokens: { [TOKEN]: [] } },
    env: { HF_TOKEN: TOKEN },
  });
  const refused = await fetchError(other.models);
  assertEquals(refused.code, "MODEL_ACCESS_DENIED");
  assertMatch(refused.message, /token of HF_TOKEN does not open it/);
  assertNotMatch(refused.message, /secret/);
});

Deno.test("the token goes to the hub, and to nobody else", async () => {
  const hub = { ...GATED, tokens: { [TOKEN]: [REPO] } };
  await using bed = await startBed({ hub, env: { HF_TOKEN: TOKEN } });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
  const senders = (origin: "hub" | "cdn") =>
    bed.hub.requestsFor({ origin }).map((request) => request.headers.get("authorization"));
  assertEquals(new Set(senders("hub")), new Set([`Bearer ${TOKEN}`]));
  assertEquals(senders("cdn"), [null]);
});

Deno.test("the token goes along when the hub redirects to itself", async () => {
  const repos = { [REPO]: { files: { [FILE]: { content: tinyGguf(), lfs: false } }, private: true } };
  const hub = { repos, tokens: { [TOKEN]: [REPO] }, resolveCache: true };
  await using bed = await startBed({ hub, env: { HF_TOKEN: TOKEN } });
  assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
});

Deno.test("a token is found where hf auth login leaves it, without a restart", async () => {
  await using bed = await startBed({ hub: { ...GATED, tokens: { [TOKEN]: [REPO] } } });
  assertEquals((await fetchError(bed.models)).code, "MODEL_ACCESS_DENIED");
  await Deno.writeTextFile(`${bed.path}/hf/token`, `${TOKEN}\n`);
  assertEquals((await fetchModel(bed.models)).last.stage, "complete");
});

for (
  const path of ["../../../evil-Q8_0.gguf", "/evil-Q8_0.gguf", "a/../evil-Q8_0.gguf", "a\\evil-Q8_0.gguf"]
) {
  Deno.test(`a hub that lists ${JSON.stringify(path)} is refused, and nothing is written`, async () => {
    await using bed = await startBed({ hub: { repos: { [REPO]: { files: { [path]: smallestGguf() } } } } });
    const before = await filesBelow(bed.path);
    const error = await fetchError(bed.models);
    assertEquals(error.code, "INVALID_MODEL");
    assertStringIncludes(error.message, "no plain path");
    assertEquals(await filesBelow(bed.path), before);
    assertEquals(bed.hub.requestsFor({ purpose: "content" }), []);
  });
}

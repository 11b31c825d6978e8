/** What another hive asks for, over HTTP: who may, in which form, and what the answers are. */
import { assertEquals } from "@std/assert";
import { ModelOffer } from "../protocol/hive_schemas.ts";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import { startHub } from "../tests/helpers/hub.ts";
import { rawExchange } from "../tests/helpers/raw_http.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { type TestHive, testHive } from "../tests/helpers/test_hive.ts";
import { STORIES } from "../tests/helpers/test_models.ts";

const REF = "hf:acme/bee:Q8_0";
const CONTENT = Deno.readFileSync(STORIES);
const OFFER = `${HIVE_ROUTES.offer.path}?model_ref=${encodeURIComponent(REF)}`;
const BLOBS = "/v1/models/blobs";

interface Asker {
  hive: TestHive;
  /** Asks with the hive's key, unless other headers are given. */
  ask(target: string, init?: RequestInit): Promise<Response>;
  /** Status and error code of a refusal. */
  refusal(target: string, init?: RequestInit): Promise<[number, string]>;
  /** SHA-256 of the model's file. */
  digest: string;
}

/** A hive that has pulled {@linkcode REF}. */
async function withModel(test: (asker: Asker) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using hub = await startHub({
    repos: { "acme/bee": { files: { "bee-Q8_0.gguf": { path: STORIES } } } },
  });
  await using hive = await testHive({ home: home.rbeeHome, hub: hub.url });
  const answer = await hive.client.download(REF);
  if (!("local_path" in answer)) {
    await Array.fromAsync((await hive.client.downloadProgress(answer.download_id)).events);
  }
  const ask: Asker["ask"] = (target, init) =>
    fetch(`${hive.url}${target}`, { headers: { Authorization: `Bearer ${hive.key}` }, ...init });
  const refusal: Asker["refusal"] = async (target, init) => {
    const response = await ask(target, init);
    return [response.status, (await response.json()).error.code];
  };
  const offer = ModelOffer.parse(await (await ask(OFFER)).json());
  await test({ hive, ask, refusal, digest: offer.files[0].digest.hex });
}

Deno.test("without the key there is neither an offer nor a blob, nor a word on whether there could be", () =>
  withModel(async ({ ask, refusal, digest }) => {
    const targets = [OFFER, `${BLOBS}/${digest}`, `${BLOBS}/${"0".repeat(64)}`, `${BLOBS}/..%2Fx`];
    for (const target of targets) {
      assertEquals(await refusal(target, { headers: {} }), [401, "MISSING_API_KEY"], target);
      const headers = { Authorization: "Bearer not-the-key-of-the-hive" };
      assertEquals(await refusal(target, { headers }), [401, "INVALID_API_KEY"], target);
      const response = await ask(target, { headers });
      assertEquals(response.headers.get("WWW-Authenticate"), "Bearer");
      await response.body?.cancel();
    }
  }));

Deno.test("with the key the file comes as it was offered, whole and in parts", () =>
  withModel(async ({ hive, ask, digest }) => {
    const whole = await ask(`${BLOBS}/${digest}`);
    assertEquals([whole.status, whole.headers.get("ETag")], [200, `"${digest}"`]);
    assertEquals(await whole.bytes(), CONTENT);
    const Authorization = `Bearer ${hive.key}`;
    const part = await ask(`${BLOBS}/${digest}`, { headers: { Authorization, Range: "bytes=5000-9999" } });
    assertEquals([part.status, await part.bytes()], [206, CONTENT.subarray(5_000, 10_000)]);
  }));

Deno.test("only GET: a HEAD or POST is refused, and leaves the hive well", () =>
  withModel(async ({ ask, digest }) => {
    for (const target of [OFFER, `${BLOBS}/${digest}`]) {
      for (const method of ["HEAD", "POST", "PUT"]) {
        const response = await ask(target, { method });
        assertEquals(response.status, 405, `${method} ${target}`);
        await response.body?.cancel();
      }
    }
    assertEquals((await (await ask(`${BLOBS}/${digest}`)).bytes()).length, CONTENT.length);
  }));

Deno.test("an offer is asked for by one reference that is one", () =>
  withModel(async ({ refusal }) => {
    const offer = HIVE_ROUTES.offer.path;
    const cases = ["", "?model_ref=", "?model_ref=bee", "?ref=hf:acme/bee", `?model_ref=${REF}&x=1`];
    for (const query of cases) {
      assertEquals(await refusal(offer + query), [400, "INVALID_REQUEST"], query);
    }
    for (const ref of ["hf:acme/wasp:Q8_0", "builtin:stories", `file:${STORIES}`]) {
      assertEquals(
        await refusal(`${offer}?model_ref=${encodeURIComponent(ref)}`),
        [404, "MODEL_NOT_FOUND"],
        ref,
      );
    }
  }));

Deno.test("no escape makes a digest a path", () =>
  withModel(async ({ hive, refusal, digest }) => {
    const path = encodeURIComponent((await hive.client.models()).models[0].local_path);
    const digests = [path, "..%2F..%2F..%2Fapi_key", "%2Fetc%2Fpasswd", "%00", "%2e%2e%2fx", `${digest}%00`];
    for (const text of digests) {
      assertEquals(await refusal(`${BLOBS}/${text}`), [404, "MODEL_NOT_FOUND"], text);
    }
    assertEquals(await refusal(`${BLOBS}/${digest}?download=1`), [400, "INVALID_REQUEST"]);
    // As no proper client would send it.
    for (const target of [`${BLOBS}/../../../etc/passwd`, `${BLOBS}/%ff`, `${BLOBS}/`]) {
      const request = `GET ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${hive.key}\r\n\r\n`;
      const answer = await rawExchange(Number(new URL(hive.url).port), request);
      assertEquals(answer!.status >= 400 && answer!.status < 500, true, target);
    }
  }));

Deno.test("a file that goes away between offer and request is not found, which is no defect", () =>
  withModel(async ({ hive, refusal, digest }) => {
    await Deno.remove(await Deno.realPath((await hive.client.models()).models[0].local_path));
    assertEquals(await refusal(`${BLOBS}/${digest}`), [404, "MODEL_NOT_FOUND"]);
    assertEquals(hive.log.filter(({ level }) => level === "error"), []);
  }));

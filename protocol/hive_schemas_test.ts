import { assert, assertEquals } from "@std/assert";
import { fieldErrors } from "./errors.ts";
import {
  DownloadRequest,
  DownloadResponse,
  PruneRequest,
  ReadyCallback,
  VerifyRequest,
} from "./hive_schemas.ts";
import { MAX_CTX_SIZE, MAX_SLOTS, SpawnRequest } from "./spawn_request.ts";
import type * as z from "zod";

function badFields(schema: z.ZodType, value: unknown): string[] {
  const result = schema.safeParse(value, { reportInput: true });
  return result.success ? [] : fieldErrors(result.error).map(({ field }) => field).sort();
}

Deno.test("a spawn needs a model and nothing else", () => {
  assertEquals(SpawnRequest.parse({ model_ref: "builtin:stories" }), {
    model_ref: "builtin:stories",
    backend: "auto",
    device: 0,
    slots: 4,
  });
  assertEquals(badFields(SpawnRequest, {}), ["model_ref"]);
});

Deno.test("each limit of a spawn is itself allowed and the next value beyond is not", () => {
  const limits: Record<string, { good: unknown[]; bad: unknown[] }> = {
    model_ref: {
      good: ["hf:a/b:Q4_0@main", "file:/x.gguf"],
      bad: ["", "x", "file:x.gguf", "hf:../..", 5, null],
    },
    backend: { good: ["auto", "cpu", "cuda", "metal", "vulkan"], bad: ["gpu", "CPU", "", null] },
    device: { good: [0, 255], bad: [-1, 256, 0.5, "0"] },
    slots: { good: [1, MAX_SLOTS], bad: [0, MAX_SLOTS + 1, 1.5, "4"] },
    ctx_size: { good: [16, MAX_CTX_SIZE], bad: [15, MAX_CTX_SIZE + 1, 100.5] },
    idle_timeout: { good: [0, 0.5, 31_536_000], bad: [-1, 31_536_001, "300"] },
    pin: { good: [true, false], bad: ["yes", 1, null] },
  };
  assertEquals(
    Object.keys(limits).sort(),
    Object.keys(SpawnRequest.shape).sort(),
    "a field is not tested here",
  );
  for (const [field, { good, bad }] of Object.entries(limits)) {
    const spawn = (value: unknown) =>
      badFields(SpawnRequest, { model_ref: "builtin:stories", [field]: value });
    for (const value of good) assertEquals(spawn(value), [], `${field}=${value}`);
    for (const value of bad) assertEquals(spawn(value), [field], `${field}=${JSON.stringify(value)}`);
  }
});

Deno.test("unknown fields of requests are refused by name", () => {
  assertEquals(badFields(SpawnRequest, { model_ref: "builtin:stories", slot: 1 }), ["slot"]);
  assertEquals(badFields(DownloadRequest, { model_ref: "builtin:stories", force: true }), ["force"]);
});

Deno.test("a callback names a worker's http address and nothing more dangerous", () => {
  const callback = {
    worker_id: "w1",
    url: "http://127.0.0.1:8001",
    model_ref: "builtin:stories",
    backend: "cpu",
    device: 0,
    pid: 1,
  };
  assertEquals(badFields(ReadyCallback, callback), []);
  for (const url of ["file:///etc/passwd", "ftp://x", "javascript:alert(1)", "127.0.0.1:8001", "", "http:"]) {
    assertEquals(badFields(ReadyCallback, { ...callback, url }), ["url"], url);
  }
  assertEquals(badFields(ReadyCallback, { ...callback, backend: "auto" }), ["backend"]);
  assertEquals(badFields(ReadyCallback, { ...callback, worker_id: "" }), ["worker_id"]);
  assertEquals(badFields(ReadyCallback, { ...callback, api_key: "x" }), ["api_key"]);
});

Deno.test("a cached model comes with its path", () => {
  const cached = DownloadResponse.parse({ download_id: "cached", local_path: "/x.gguf" });
  assert("local_path" in cached && cached.local_path === "/x.gguf");
  assertEquals(DownloadResponse.parse({ download_id: "d1" }), { download_id: "d1" });
});

Deno.test("a prune needs to know how much may stay, and a verification which model", () => {
  assertEquals(PruneRequest.parse({ keep_gb: 0 }), { keep_gb: 0, dry_run: false });
  assertEquals(badFields(PruneRequest, { dry_run: "yes", keep: 1 }), ["dry_run", "keep", "keep_gb"]);
  for (const keep_gb of [-1, Infinity, NaN, "5", null, 1_000_001]) {
    assertEquals(badFields(PruneRequest, { keep_gb }), ["keep_gb"]);
  }
  assertEquals(badFields(VerifyRequest, { model_ref: "wasp", x: 1 }), ["model_ref", "x"]);
});

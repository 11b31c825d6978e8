// The hub that the tests of the stand-in itself use: one repository, one model, one small file.

import { createHash } from "node:crypto";
import { type Hub, type HubOptions, startHub } from "./hub.ts";

export const REPO = "acme/tiny";
export const MODEL_BYTES = 300_000;
export const MODEL = { generate: MODEL_BYTES, seed: 5 };
export const README = "# tiny\n";

export async function tinyHub(options: Partial<HubOptions> = {}): Promise<Hub> {
  return await startHub({
    repos: { [REPO]: { files: { "tiny.gguf": MODEL, "README.md": README } } },
    ...options,
  });
}

/** Asks for the model; follows redirects unless told otherwise. */
export function fetchModel(hub: Hub, init: RequestInit = {}): Promise<Response> {
  return fetch(`${hub.url}/${REPO}/resolve/main/tiny.gguf`, init);
}

export async function wholeModel(hub: Hub): Promise<Uint8Array> {
  return await (await fetchModel(hub)).bytes();
}

export async function getJson<T>(url: string): Promise<T> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return await response.json();
}

/** An entry of the tree API. */
export interface TreeEntry {
  type: string;
  path: string;
  size: number;
  oid: string;
  lfs?: { oid: string; size: number; pointerSize: number };
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

import { assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { CommonPrefixes } from "./common_prefixes.ts";

const header = (text: string) => `${text.length}-${createHash("sha256").update(text).digest("hex")}`;

Deno.test("the longest declared text that a request begins with counts, in whatever words, for its models", () => {
  const common = new CommonPrefixes([
    { text: "You are" },
    { text: "You are a clerk." },
    { text: "You are a clerk. Be", models: ["hf:acme/*"] },
  ]);
  const request = "You are a clerk. Be short.";
  const forms = [
    { prompt: request },
    { messages: [{ role: "user", content: request }] },
    { messages: [{ role: "system", content: [{ type: "text", text: request }] }] },
    { system: request, messages: [{ role: "user", content: "hi" }] },
    { system: [{ type: "text", text: request }], messages: [] },
    { instructions: request, input: "hi" },
    { input: request },
    { input: [{ role: "user", content: request }] },
  ];
  for (const form of forms) {
    assertEquals(common.headerFor("builtin:stories", form), header("You are a clerk."), JSON.stringify(form));
    assertEquals(common.headerFor("hf:acme/bee", form), header("You are a clerk. Be"));
  }
  assertEquals(common.headerFor("m", { prompt: "You are here." }), header("You are"));
  for (const other of [{ prompt: " You are" }, { prompt: [1, 2] }, { messages: [] }, {}]) {
    assertEquals(common.headerFor("m", other), undefined, JSON.stringify(other));
  }
  common.configure([]);
  assertEquals(common.headerFor("m", { prompt: request }), undefined);
});

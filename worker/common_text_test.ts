import { assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { commonBeginningOf } from "./common_text.ts";

const TEXT = "You are a clerk.";
const DECLARED = { chars: TEXT.length, sha256: createHash("sha256").update(TEXT).digest("hex") };
const tools = [{ type: "function", function: { name: "secret" } }];

Deno.test("what is common is the declared text, alone or as a conversation of nothing else", () => {
  assertEquals(commonBeginningOf({ prompt: `${TEXT} Secret.` }, DECLARED), { prompt: TEXT });
  const user = { role: "user", content: "Secret." };
  const expected = (role: string, ...rest: unknown[]) => ({
    chat: { any_template: true, messages: [{ role, content: TEXT }, ...rest] },
  });
  const chat = (content: unknown, role = "system") => ({
    chat: {
      any_template: true,
      tools,
      template_arguments: { name: "secret" },
      messages: [{ role, content }, user],
    },
  });
  const alone = expected("system", { role: "user", content: "" });
  assertEquals(commonBeginningOf(chat(`${TEXT} Secret.`), DECLARED), alone);
  assertEquals(commonBeginningOf(chat([{ type: "text", text: TEXT }]), DECLARED), alone);
  assertEquals(commonBeginningOf(chat(`${TEXT} Secret.`, "user"), DECLARED), expected("user"));
});

Deno.test("a request that begins otherwise has nothing in common, whatever was said of it", () => {
  const others = ["You are a thief.", TEXT.slice(1), ` ${TEXT}`, TEXT.slice(0, -1), ""];
  for (const text of others) {
    assertEquals(commonBeginningOf({ prompt: text }, DECLARED), undefined, text);
    assertEquals(
      commonBeginningOf({ messages: [{ role: "user", content: text }] }, DECLARED),
      undefined,
      text,
    );
  }
  assertEquals(commonBeginningOf({ messages: [{ role: "user", content: null }] }, DECLARED), undefined);
  assertEquals(commonBeginningOf({}, DECLARED), undefined);
});

import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { tempHome } from "./temp_home.ts";

Deno.test("homes are separate, private, and gone after use", async () => {
  let path: string;
  {
    await using first = await tempHome();
    await using second = await tempHome({ hfEndpoint: "http://127.0.0.1:1234" });
    assertNotEquals(first.path, second.path);
    assertEquals((await Deno.stat(first.rbeeHome)).mode! & 0o777, 0o700);
    assertEquals(first.env.RBEE_HOME, first.rbeeHome);
    assertEquals(second.env.HF_ENDPOINT, "http://127.0.0.1:1234");
    await Deno.writeTextFile(`${first.env.TMPDIR}/partial.txt`, "left behind");
    path = first.path;
  }
  await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
});

Deno.test("without an endpoint nothing can be reached", async () => {
  await using home = await tempHome();
  await assertRejects(() => fetch(home.env.HF_ENDPOINT), TypeError);
});

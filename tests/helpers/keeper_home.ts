/** A keeper's home that knows machines by name, as a person's would. */
import { join } from "@std/path";
import { emptyHome, type TestHome } from "../../keeper/testing/keeper_process.ts";

/** Makes one. Each machine's key lies in a private file beside the configuration; `keeper` is that section of it. */
export async function keeperHome(
  machines: Readonly<Record<string, { url: string; key: string }>>,
  keeper: Readonly<Record<string, unknown>> = {},
): Promise<TestHome> {
  const home = await emptyHome();
  const nodes: Record<string, unknown> = {};
  for (const [name, { url, key }] of Object.entries(machines)) {
    const keyFile = join(home.path, `${name}.key`);
    await Deno.writeTextFile(keyFile, `${key}\n`, { mode: 0o600 });
    nodes[name] = { url, api_key_file: keyFile };
  }
  await Deno.writeTextFile(join(home.path, "config.yaml"), JSON.stringify({ nodes, keeper }));
  return home;
}

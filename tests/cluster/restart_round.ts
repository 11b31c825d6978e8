/** A queen that is killed with work running and waiting, and what its successor makes of that. */
import { digestOf } from "../../daemon/auth.ts";
import { QUEEN_ROUTES, routePath } from "../../protocol/routes.ts";
import { CLUSTER_KEY, startQueen } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import { FakeFleet, FLEET_MODEL, FLEET_TOKENS } from "../helpers/fake_fleet.ts";
import { tempHome } from "../helpers/temp_home.ts";

const KEYS = ["ada", "ben"];
const SLOTS = 4;
const QUEUED = 100;
const REPORT_INTERVAL_MS = 1_000;

/** How many tasks came to which end. */
export async function restartRound(): Promise<Map<string, number>> {
  await using home = await tempHome();
  const keys = KEYS.map((name) => ({ name, hash: digestOf(keyOf(name)).toHex() }));
  await Deno.writeTextFile(`${home.rbeeHome}/config.yaml`, JSON.stringify({ queen: { keys } }));
  await using first = await startQueen({ home });
  await using fleet = new FakeFleet({ call: caller(first.url) }, { slots: SLOTS });
  await fleet.start(1);
  const ids: string[] = [];
  for (let i = 0; i < SLOTS + QUEUED; i++) {
    const response = await caller(first.url)(QUEEN_ROUTES.submit.path, {
      ...{ model: FLEET_MODEL, prompt: `gated ${i}`, max_tokens: FLEET_TOKENS },
    }, { Authorization: `Bearer ${keyOf(KEYS[i % KEYS.length])}` });
    const receipt = await response.json();
    if (response.status !== 202) throw new Error(JSON.stringify(receipt));
    ids.push(receipt.job_id);
  }
  await eventually("all slots to be taken", () => fleet.seen.length === SLOTS);
  await first.kill();
  await using second = await startQueen({ home });
  fleet.queen = { call: caller(second.url) };
  await fleet.report();
  fleet.openGate();
  const reporting = setInterval(() => void fleet.report(), REPORT_INTERVAL_MS);
  try {
    const ends = new Map<string, number>();
    for (const id of ids) {
      const end = await eventually("the end of a task", async () => {
        const response = await caller(second.url)(routePath(QUEEN_ROUTES.task, { id }));
        const { status, tokens, error } = await response.json();
        return status === "queued" || status === "running" ? undefined : error?.code ?? `${status} ${tokens}`;
      }, 60_000);
      ends.set(end, (ends.get(end) ?? 0) + 1);
    }
    return ends;
  } finally {
    clearInterval(reporting);
  }
}

/** What all of them should come to. */
export const RIGHT_ENDS = new Map([[`done ${FLEET_TOKENS}`, SLOTS + QUEUED]]);

function keyOf(name: string): string {
  return `the-key-of-${name}`;
}

function caller(url: string) {
  return (path: string, body?: unknown, headers: Record<string, string> = {}) =>
    fetch(new URL(path, url), {
      method: body === undefined ? "GET" : "POST",
      headers: { Authorization: `Bearer ${CLUSTER_KEY}`, "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
}

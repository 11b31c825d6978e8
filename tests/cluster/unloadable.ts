/** A queen whose machines can't load what they are asked for: how many try, and when the client is told. */
import { CLUSTER_KEY, startCluster, type StartClusterOptions } from "../helpers/cluster.ts";
import { hostileGgufs } from "../helpers/gguf_hostile.ts";
import type { HubFileSpec } from "../helpers/hub_repo.ts";
import { startHub } from "../helpers/hub.ts";
import { STORIES } from "../helpers/test_models.ts";

const REPO = "acme/bee";
const MODEL = `hf:${REPO}:Q8_0`;

/** A way to fail. */
export interface Failure {
  name: string;
  /** Machines that may try it. */
  triesMax: number;
  /** How the client is told. */
  code: string;
  /** The file at the hub; none: there is no such model. */
  content?: HubFileSpec;
  worker?: NonNullable<StartClusterOptions["hive"]>["worker"];
}

/** What it came to. */
export interface Told {
  tries: number;
  downloads: number;
  workers: number;
  ms: number;
  status: number;
  code: string;
  message: string;
}

/** In the model, for which one machine speaks, and in a machine, of which three are asked. */
export function failures(): Failure[] {
  const damaged = new Map([...hostileGgufs()].map(({ name, bytes }) => [name, bytes]));
  const ofModel = { triesMax: 1, code: "INVALID_MODEL" };
  const ofMachine = { triesMax: 3, content: { path: STORIES } };
  return [
    { ...ofModel, name: "a model that is not there", code: "MODEL_NOT_FOUND" },
    { ...ofModel, name: "a file that is no model", content: "GGUF, or so it says" },
    ...["unknown_architecture", "block_count_2", "heads_not_dividing", "no_tensors"].map((name) => ({
      ...{ ...ofModel, name: `a model with ${name}`, content: damaged.get(name)! },
    })),
    {
      ...{ ...ofModel, content: { path: STORIES }, name: "workers that report that it can't be loaded" },
      worker: { mode: "load-fails" },
    },
    {
      ...{ ...ofMachine, name: "workers that die at once", code: "WORKER_START_FAILED" },
      worker: { mode: "dies-before-callback" },
    },
    {
      ...{ ...ofMachine, name: "workers that die while they load", code: "WORKER_CRASHED" },
      worker: { mode: "dies-during-load", loadMs: 100 },
    },
  ];
}

/** Asks so many machines. */
export async function askUnloadable({ content, worker }: Failure, hives: number): Promise<Told> {
  const files: Record<string, HubFileSpec> = content === undefined ? {} : { "bee-Q8_0.gguf": content };
  await using hub = await startHub({ repos: { [REPO]: { files } } });
  await using cluster = await startCluster({
    nodes: Array.from({ length: hives }, (_, i) => `hive-${i}`),
    hive: { worker, env: { HF_ENDPOINT: hub.url } },
  });
  const startedMs = performance.now();
  const response = await fetch(`${cluster.queen.url}/v1/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
    body: JSON.stringify({ model: MODEL, prompt: "Once", max_tokens: 5 }),
  });
  const { error } = await response.json();
  const ms = performance.now() - startedMs;
  const all = Object.values(cluster.hives);
  return {
    tries: all.filter((hive) => hive.logs().includes(MODEL)).length,
    downloads: hub.requests.filter(({ origin, method }) => origin === "cdn" && method === "GET").length,
    workers: all.flatMap((hive) => hive.workerPids()).length,
    ...{ ms, status: response.status, code: error?.code, message: error?.message },
  };
}

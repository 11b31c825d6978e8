/** The real worker as a child process with a model of its own choice. */
import { WorkerClient } from "../../protocol/worker_client.ts";
import { type Daemon, startDaemon, type StartDaemonOptions } from "./daemons.ts";
import { eventually } from "./eventually.ts";
import { STORIES } from "./test_models.ts";

/** A worker that has loaded its model. */
export interface WorkerProcess extends Daemon {
  readonly url: string;
  readonly key: string;
  readonly client: WorkerClient;
}

/**
 * Starts a worker on a free loopback port and waits until its model is loaded.
 *
 * @throws {Error} with its output, when it does not become ready.
 */
export async function startWorker(
  options: {
    model?: string;
    modelRef?: string;
    args?: readonly string[];
    env?: Readonly<Record<string, string>>;
    within?: StartDaemonOptions["within"];
  } = {},
): Promise<WorkerProcess> {
  const { model = STORIES, modelRef = "builtin:stories", args = [], env = {}, within } = options;
  const key = crypto.randomUUID();
  const home = await Deno.makeTempDir({ prefix: "rbee-worker-" });
  const daemon = startDaemon({
    main: "worker/main.ts",
    permissions: "worker",
    within,
    args: ["--model", model, "--model-ref", modelRef, "--port", "0", ...args],
    env: { RBEE_HOME: home, RBEE_WORKER_API_KEY: key, ...env },
  });
  try {
    const { url } = await daemon.logged("listening", ({ message }) => message === "listening");
    await daemon.logged("model loaded", ({ message }) => message === "model loaded");
    const client = new WorkerClient({ baseUrl: String(url), apiKey: key });
    await eventually("the worker to be ready", async () => (await client.ready()).ready);
    return {
      ...daemon,
      url: String(url),
      key,
      client,
      [Symbol.asyncDispose]: async () => {
        await daemon[Symbol.asyncDispose]();
        await Deno.remove(home, { recursive: true });
      },
    };
  } catch (error) {
    await daemon.kill();
    throw new Error(`The worker did not become ready: ${daemon.logs()}`, { cause: error });
  }
}

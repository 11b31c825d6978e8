/** llama-server from the same submodule, as a peer to compare with. Build it with `tools/build.ts --target llama-server`. */
import { basename, fromFileUrl } from "@std/path";
import { freePort } from "../tests/helpers/free_port.ts";

/** Where the build puts it. */
const PROGRAM = fromFileUrl(new URL("../worker/native/build/cpu/bin/llama-server", import.meta.url));
const START_TIMEOUT_MS = 60_000;
/** Between two looks at its health: as short as a measured start needs. */
const POLL_MS = 5;

/** A running llama-server. */
export interface LlamaServer extends AsyncDisposable {
  /** `http://127.0.0.1:port`. */
  url: string;
  pid: number;
  /** The command line it was started with, without the port. */
  command: string;
}

/** Starts it on a free port and waits until the model is loaded. */
export async function startLlamaServer(model: string, args: readonly string[]): Promise<LlamaServer> {
  const port = freePort();
  const flags = ["-m", model, "--no-webui", "--log-disable", ...args];
  const child = new Deno.Command(PROGRAM, {
    args: [...flags, "--port", String(port)],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const stop = async () => {
    child.kill("SIGTERM");
    await child.status;
  };
  const url = `http://127.0.0.1:${port}`;
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!await isHealthy(url)) {
    if (performance.now() > deadline) {
      await stop();
      throw new Error("llama-server did not become healthy in time.");
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return {
    url,
    pid: child.pid,
    command: ["llama-server", ...flags.map((flag) => flag === model ? basename(model) : flag)].join(" "),
    [Symbol.asyncDispose]: stop,
  };
}

async function isHealthy(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/health`);
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

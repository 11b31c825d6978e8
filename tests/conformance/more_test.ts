/** The lines under "More" of SPEC §8: what else goes wrong between a person and an answer. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { HIVE_KEY, on, standInHive, standInWorker } from "../../keeper/testing/stand_in.ts";
import { HIVE_ROUTES } from "../../protocol/routes.ts";
import { canMount, fill, inNamespace } from "../helpers/mounts.ts";
import { STORIES } from "../helpers/test_models.ts";
import { given, INFER, LOADING, saw, STARTING, STORY } from "./scenario.ts";

const BEE = [...INFER, "--model", "hf:acme/bee"];

Deno.test("given a model that the hub does not have, infer says so", () =>
  given(
    {},
    async ({ type }) =>
      saw(await type(...INFER, "--model", "hf:acme/none"), {
        code: 1,
        stderr: [
          "Error: http://HOST:PORT refuses acme/none: it does not exist, or is private. Check the name; if it is right, give a token: set HF_TOKEN, or put it in a file and name that as hub.token_file in config.yaml.",
          "  Accept the model's terms at the hub, then start the hive on mac with HF_TOKEN set.",
        ],
      }),
  ));

Deno.test("given a damaged file at the hub, infer refuses it", () =>
  given({}, async ({ hub, type }) => {
    hub.faults.add({ kind: "flip", atByte: 5_000 }, { times: 1000 });
    saw(await type(...INFER, "--model", "hf:acme/bee"), {
      code: 1,
      stderr: [
        "Downloading model...",
        "The download broke off: bee-Q4_K_M.gguf came with a wrong checksum. Retry 2/6 in N ms.",
        "Error: bee-Q4_K_M.gguf of acme/bee came with a wrong checksum. It was discarded; try again later.",
      ],
    });
  }));

Deno.test("given no such backend or device, infer names those there are", () =>
  given({}, async ({ type }) => {
    saw(await type(...INFER, "--backend", "cuda"), {
      code: 1,
      stderr: [
        "Error: This machine can't compute on cuda; it can on cpu.",
        "  Choose one of those with --backend, or leave it to auto.",
      ],
    });
    saw(await type(...INFER, "--device", "7"), {
      code: 1,
      stderr: [
        "Error: There is no cpu device 7 on this machine; there is 0 (CPU).",
        "  Choose one of those with --device.",
      ],
    });
  }));

Deno.test("given no worker program, infer names it", () =>
  given(
    { hive: { RBEE_WORKER_COMMAND: '["/no/such/worker"]' } },
    async ({ type }) =>
      saw(await type(...INFER), {
        code: 1,
        stderr: [
          "Error: The worker program /no/such/worker can't be started: Failed to spawn '/no/such/worker': No such file or directory (os error N)",
        ],
      }),
  ));

Deno.test("given a worker that dies before it is there, infer shows its last words", () =>
  given(
    { worker: { mode: "dies-before-callback" } },
    async ({ type }) =>
      saw(await type(...INFER), {
        code: 1,
        stderr: [
          "Error: The worker for builtin:stories ended with exit code 3 before it was ready. Its log ends with: fake worker in mode dies-before-callback | fake worker: something terrible happened The log is TMP/rbee/logs/worker-WORKER.log.",
          "  The log ends with:",
          "    fake worker in mode dies-before-callback",
          "    fake worker: something terrible happened",
        ],
      }),
  ));

Deno.test("given bad flags, every one is named with what was probably meant, and nothing is started", () =>
  given({}, async ({ hive, type }) => {
    saw(await type("infer", "--promt", "x", "--temperature", "3", "--max-tokens", "none"), {
      code: 2,
      stderr: [
        "Error: Unknown flag --promt. Did you mean --prompt?",
        "  --prompt is required.",
        '  --max-tokens takes a whole number from 1 to 1048576, not "none".',
        '  --temperature takes a number from 0 to 2, not "3".',
        "  See: rbee-keeper infer --help",
      ],
    });
    assertEquals((await hive.client.workers()).workers, []);
  }));

const BEE_FILES = { "bee-Q4_K_M.gguf": { path: STORIES } };

Deno.test("given a model whose terms were not accepted, infer says what to do at the hub", () =>
  given({ hub: { repos: { "acme/bee": { files: BEE_FILES, gated: "manual" } } } }, async ({ type }) => {
    const finished = await type(...BEE);
    // Whether the keeper looks before the hub has refused is chance.
    saw({ ...finished, stderr: finished.stderr.replace(/^Downloading model\.\.\.\n/, "") }, {
      code: 1,
      stderr: [
        "Error: http://HOST:PORT refuses bee-Q4_K_M.gguf of acme/bee: it is gated. Ask for access on its page, then give a token: set HF_TOKEN, or put it in a file and name that as hub.token_file in config.yaml.",
        "  Accept the model's terms at the hub, then start the hive on mac with HF_TOKEN set.",
      ],
    });
  }));

Deno.test({
  name: "given a disk that the model does not fit on, infer says how much is missing and fetches nothing",
  ignore: !canMount,
  fn: () =>
    given({
      within: ({ hfHome }) => inNamespace(`mkdir -p ${hfHome} && mount -t tmpfs -o size=1m none ${hfHome}`),
    }, async ({ hub, type }) => {
      saw(await type(...BEE), {
        code: 1,
        stderr: [
          "Error: The disk of TMP/hf/hub has N MB free, N MB are needed. Remove models that are not used, or set hive.models_dir to a larger disk.",
          "  Required: N MB, available: N MB",
        ],
      });
      assertEquals(hub.requests.filter(({ origin }) => origin === "cdn"), []);
    }),
});

Deno.test({
  name: "given a disk that fills up during the download, infer says so",
  ignore: !canMount,
  fn: () =>
    given({
      hub: { repos: { "acme/bee": { files: BEE_FILES } }, bytesPerSecond: 100_000 },
      within: ({ hfHome }) => inNamespace(`mkdir -p ${hfHome} && mount -t tmpfs -o size=4m none ${hfHome}`),
    }, async ({ hive, hiveHome, start }) => {
      const infer = start(...BEE);
      await infer.shows("stderr", "Downloading");
      await fill(join(`/proc/${hive.pid}/root`, hiveHome.hfHome, "filler"));
      saw(await infer.finished, {
        code: 1,
        stderr: [
          "Downloading model...",
          "Error: The disk of TMP/hf/hub/models--acme--bee/blobs has N MB free, N MB are needed. Remove models that are not used, or set hive.models_dir to a larger disk.",
          "  Required: N MB, available: N MB",
        ],
      });
    }),
});

Deno.test("given an answer that stands still, infer gives it up and keeps what came", () =>
  given(
    { worker: { mode: "stalls-mid-answer" }, keeper: { token_timeout: 1 } },
    async ({ hive, type }) => {
      saw(await type(...INFER), {
        code: 1,
        stdout: "Once upon a time there \n",
        stderr: [
          STARTING,
          ...LOADING,
          "Error: No token came for 1 s; the request was canceled",
          "  Partial answer saved to TMP/rbee-partial-ID.txt",
          "  Tokens generated: 5 / 20",
          "  The machine may be overloaded. Run the command again, or use a smaller model.",
        ],
      });
      // It would keep its hive waiting for the rest of the answer.
      for (const pid of hive.workerPids()) Deno.kill(pid, "SIGKILL");
    },
  ));

Deno.test("given a worker's port that something else has, the next one is used", async () => {
  using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = other.addr as Deno.NetAddr;
  await given({ hive: { RBEE_HIVE_WORKER_PORTS: `${port}-${port + 20}` } }, async ({ hive, type }) => {
    saw(await type(...INFER), { code: 0, stdout: `${STORY}\n`, stderr: [STARTING, ...LOADING] });
    const [worker] = (await hive.client.workers()).workers;
    assert(Number(new URL(worker.url).port) > port);
  });
});

Deno.test("given a hive whose answer is none, infer names the machine, the route and what is wrong", () =>
  given({}, async ({ home, knowMac, type }) => {
    await using worker = standInWorker();
    await using odd = standInHive(worker, { [on(HIVE_ROUTES.spawn)]: () => Response.json({ worker: 7 }) });
    const path = join(home.path, "odd.key");
    await Deno.writeTextFile(path, `${HIVE_KEY}\n`, { mode: 0o600 });
    await knowMac({ url: odd.url, api_key_file: path });
    saw(await type(...INFER), {
      code: 1,
      stderr: [
        "Error: http://HOST:PORT gave a malformed answer to POST /v1/workers/spawn: worker_id: Invalid input: expected string, received undefined; url: Invalid input: expected string, received undefined; state: Invalid input: expected string, received undefined; and 4 more",
        "  Check that the address is that of a daemon of rbee, and of the same version.",
      ],
    });
  }));

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createLogger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { Hardware } from "./hardware.ts";

const quiet = createLogger({ part: "test", level: "error", format: "json", write: () => {} });

/** A worker program in shell that counts how often it is asked. */
async function program(
  folder: string,
  answer: string,
): Promise<{ command: string[]; asked: () => Promise<number> }> {
  const path = `${folder}/worker.sh`;
  await Deno.writeTextFile(path, `echo x >> ${folder}/asked\n${answer}\n`);
  return {
    command: ["/bin/sh", path],
    asked: async () => (await Deno.readTextFile(`${folder}/asked`)).trim().split("\n").length,
  };
}

function hardware(command: string[], options: Partial<ConstructorParameters<typeof Hardware>[0]> = {}) {
  return new Hardware({ command, env: { PATH: "/usr/bin:/bin" }, modelsDir: "/tmp", log: quiet, ...options });
}

function detected(...backends: string[]): string {
  const devices = backends.map((backend) => ({
    ...{ backend, index: 0, name: backend, description: backend, memory_total_mb: 9, memory_free_mb: 7 },
  }));
  return `echo '${JSON.stringify({ rbee: "1", llama_cpp: "2", devices })}'`;
}

Deno.test("devices are asked for once, even by many at once", async () => {
  await using home = await tempHome();
  const { command, asked } = await program(home.path, detected("cpu"));
  const machine = hardware(command);
  const answers = await Promise.all([machine.detect(), machine.detect(), machine.detect()]);
  assertEquals(answers.map(({ llama_cpp }) => llama_cpp), ["2", "2", "2"]);
  await machine.detect();
  assertEquals(await asked(), 1);
});

Deno.test("a CPU's memory is the machine's, a GPU's is its own", async () => {
  await using home = await tempHome();
  const { command } = await program(home.path, detected("cpu", "cuda"));
  const { devices: [cpu, cuda] } = await hardware(command).detect();
  assert(cpu.memory_total_mb > 9);
  assertEquals([cuda.memory_total_mb, cuda.memory_free_mb], [9, 7]);
});

Deno.test("backends that the configuration leaves out are not there", async () => {
  await using home = await tempHome();
  const { command } = await program(home.path, detected("cpu", "cuda"));
  const { devices } = await hardware(command, { backends: ["cpu"] }).detect();
  assertEquals(devices.map(({ backend }) => backend), ["cpu"]);
});

Deno.test("a worker program that can't tell is an error with what it said, and is asked again", async () => {
  await using home = await tempHome();
  const { command, asked } = await program(home.path, "echo no engine here >&2; exit 9");
  const machine = hardware(command);
  const error = await assertRejects(() => machine.detect(), RbeeError, "no engine here");
  assertEquals([error.code, error.details.exit_code], ["WORKER_START_FAILED", 9]);
  await assertRejects(() => machine.detect(), RbeeError);
  assertEquals(await asked(), 2);
  const odd = await program(home.path, "echo hello");
  await assertRejects(() => hardware(odd.command).detect(), RbeeError, "something else");
  const missing = await assertRejects(() => hardware(["/no/such/program"]).detect(), RbeeError);
  assertStringIncludes(missing.message, "/no/such/program");
});

Deno.test("memory and disk are those of this machine, also where the folder is not made yet", async () => {
  const machine = hardware([], { modelsDir: "/tmp/not/there/yet" });
  const memory = machine.memory();
  const disk = await machine.disk();
  assert(memory.free_mb > 0 && memory.free_mb <= memory.total_mb);
  assert(disk.free_mb > 0 && disk.free_mb <= disk.total_mb);
  assertEquals(disk.models_dir, "/tmp/not/there/yet");
});

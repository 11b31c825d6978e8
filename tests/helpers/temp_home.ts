// A home of one's own for each test: nothing is shared, nothing reaches the real hub, nothing is left behind.

/** Directories of one test, with the environment that makes the programs under test use them. */
export interface TempHome extends AsyncDisposable {
  /** Holds all the others. */
  readonly path: string;
  /** `RBEE_HOME`: exists, mode 0700, empty. */
  readonly rbeeHome: string;
  /** `HF_HOME`: not made yet. */
  readonly hfHome: string;
  /** To be laid over the environment of every process the test starts. */
  readonly env: Readonly<Record<string, string>>;
}

/** Nobody listens on the discard port: without a stand-in, a download fails at once instead of going out. */
const NO_HUB = "http://127.0.0.1:9";

/**
 * Makes fresh directories; disposing removes them with all that is in them. Stop the processes that use them
 * first.
 */
export async function tempHome(options: { hfEndpoint?: string } = {}): Promise<TempHome> {
  const path = await Deno.makeTempDir({ prefix: "rbee-test-" });
  const rbeeHome = `${path}/rbee`;
  const hfHome = `${path}/hf`;
  const tmp = `${path}/tmp`;
  await Deno.mkdir(rbeeHome, { mode: 0o700 });
  await Deno.mkdir(tmp);
  return {
    path,
    rbeeHome,
    hfHome,
    env: {
      RBEE_HOME: rbeeHome,
      HF_HOME: hfHome,
      HF_HUB_CACHE: `${hfHome}/hub`,
      HF_ENDPOINT: options.hfEndpoint ?? NO_HUB,
      HF_TOKEN: "",
      TMPDIR: tmp,
    },
    async [Symbol.asyncDispose]() {
      await Deno.remove(path, { recursive: true });
    },
  };
}

/** The release of llama.cpp that the engine is built on, and the two places it can come from. */
export const LLAMA_RELEASE = {
  tag: "v0.5.0",
  /** What the submodule points to. */
  commit: "7fe450e19305b828c199d602c23a8337aaa1f03b",
  /** The content: whichever place the sources come from, they hash to this. */
  tree: "fd570ef54b10ec5fecb739e7e04c8ce44a6f415a",
  /** An npm package that carries the release as a git bundle, for where GitHub can't be reached. */
  bundlePackage: "node-llama-cpp@3.22.1",
  /** The bundle inside that package. */
  bundlePath: "package/llama/gitRelease.bundle",
} as const;

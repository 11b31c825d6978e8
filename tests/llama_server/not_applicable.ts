/** Tests of llama-server's that have nothing to say about this worker, and why. Every other one has to pass. */

/** Names as pytest has them, without what their parameters are. */
export const NOT_APPLICABLE: Readonly<Record<string, string>> = {
  "unit/test_basic.py::test_load_split_model": "downloads a model",
  "unit/test_basic.py::test_no_ui": "the worker has no page for browsers",
  "unit/test_basic.py::test_server_model_aliases_and_tags": "a worker's model has one name",
  "unit/test_chat_completion.py::test_return_progress":
    "how far a prompt is read is not told, and read in steps of the engine's own choice",
  "unit/test_completion.py::test_n_probs_post_sampling": "probabilities are told as the model gave them",
  "unit/test_completion.py::test_n_probs_post_backend_sampling":
    "probabilities are told as the model gave them",
  "unit/test_embedding.py::test_embedding_single":
    "its model would have to be downloaded; of the one that stands in, the last token's embedding is zero",
};

/** Tests that must not be given the seed of the command line, because what they count is read again with one. */
export const WITHOUT_SEED: readonly string[] = [
  "unit/test_chat_completion.py::test_chat_completion_cached_tokens",
];

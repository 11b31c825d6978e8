/** How many texts become embeddings in one step. */

/** Numbers of texts, in their order, that fit into one step each. A text longer than a step has one for itself. */
export function embeddingBatches(
  lengths: readonly number[],
  limits: { tokens: number; texts: number },
): number[] {
  const batches: number[] = [];
  let tokens = 0;
  for (const length of lengths) {
    const last = batches.length - 1;
    if (last >= 0 && tokens + length <= limits.tokens && batches[last] < limits.texts) {
      batches[last]++;
      tokens += length;
    } else {
      batches.push(1);
      tokens = length;
    }
  }
  return batches;
}

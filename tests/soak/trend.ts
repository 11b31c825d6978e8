/** Whether memory grows: figures of samples taken over a run, and what is allowed. */

/** One sample. */
export interface MemorySample {
  /** Requests that had ended. */
  requests: number;
  /** Resident memory of the process, in MB of 1,000,000 bytes. */
  megabytes: number;
}

/** What the samples after the warm-up say. */
export interface MemoryTrend {
  /** Samples after the warm-up. */
  samples: number;
  /** Slope of the line of least squares, in bytes a request. */
  bytesPerRequest: number;
  /** Median of the first quarter of the samples, in MB. */
  firstMegabytes: number;
  /** Median of the last quarter, in MB. */
  lastMegabytes: number;
}

/** This part of a run is warm-up: caches fill, code is compiled, the allocator learns how much it needs. */
const WARM_UP = 0.2;
/** However short the run is. */
const LEAST_WARM_UP_REQUESTS = 2000;
/** Fewer samples say nothing. */
const LEAST_SAMPLES = 16;
/** Ten thousand requests may make a worker larger by 10 MB, no more. */
const MAX_BYTES_PER_REQUEST = 1024;
/** How much larger the last quarter may be than the first. */
const MAX_GROWTH = 1.05;

/** The figures of a run; undefined when it was too short for any. */
export function memoryTrend(samples: readonly MemorySample[]): MemoryTrend | undefined {
  const whole = samples.at(-1)?.requests ?? 0;
  const warm = samples.filter(({ requests }) => requests > Math.max(whole * WARM_UP, LEAST_WARM_UP_REQUESTS));
  if (warm.length < LEAST_SAMPLES) return undefined;
  const quarter = Math.floor(warm.length / 4);
  const megabytes = warm.map((sample) => sample.megabytes);
  return {
    samples: warm.length,
    bytesPerRequest: slope(warm.map(({ requests, megabytes }) => [requests, megabytes * 1e6])),
    firstMegabytes: median(megabytes.slice(0, quarter)),
    lastMegabytes: median(megabytes.slice(-quarter)),
  };
}

/** What is wrong with a trend, in words. */
export function trendProblems(trend: MemoryTrend): string[] {
  const { bytesPerRequest, firstMegabytes, lastMegabytes } = trend;
  const problems: string[] = [];
  if (bytesPerRequest > MAX_BYTES_PER_REQUEST) {
    problems.push(`memory grows by ${bytesPerRequest.toFixed(0)} bytes a request`);
  }
  if (lastMegabytes > firstMegabytes * MAX_GROWTH) {
    problems.push(`memory grew from ${firstMegabytes.toFixed(1)} to ${lastMegabytes.toFixed(1)} MB`);
  }
  return problems;
}

/** Slope of the line of least squares through points of different x. */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const meanX = mean(points.map(([x]) => x));
  const meanY = mean(points.map(([, y]) => y));
  const covariance = mean(points.map(([x, y]) => (x - meanX) * (y - meanY)));
  return covariance / mean(points.map(([x]) => (x - meanX) ** 2));
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * What the calling thread has computed for, in microseconds: on a machine that others use as well, wall time measures them.
 * Where the system does not tell (anything but Linux) it is wall time after all.
 */
const THREAD_CPUTIME_ID = 3;
const timespec = new BigInt64Array(2);

/** See above. */
export const threadUs: () => number = Deno.build.os === "linux"
  ? linuxThreadUs()
  : () => performance.now() * 1000;

function linuxThreadUs(): () => number {
  const { symbols } = Deno.dlopen("libc.so.6", {
    clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  });
  return () => {
    symbols.clock_gettime(THREAD_CPUTIME_ID, timespec);
    return Number(timespec[0]) * 1e6 + Number(timespec[1]) / 1e3;
  };
}

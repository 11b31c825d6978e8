import { assert, assertEquals } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { contentOf, isSame, patchFiles, systemError } from "./part_file_test_bed.ts";
import {
  ETAG,
  failure,
  type OddAnswer,
  type ScriptedTransfer,
  startTransfer,
} from "./scripted_transfer_test_bed.ts";

const CONTENT = contentOf(12_345);

/** A transfer whose first connection has been slow for long enough: there are as many as allowed. */
async function startSlowTransfer(options: Parameters<typeof startTransfer>[1] = {}) {
  const transfer = await startTransfer(CONTENT, options);
  const first = await transfer.source.answerTo(0);
  transfer.clock.ms += 100;
  await first.give(2);
  return transfer;
}

/** All went well, and the file is the right one. */
async function assertFetched({ ended, paths }: ScriptedTransfer): Promise<void> {
  assertEquals(await ended, undefined);
  assert(isSame(await Deno.readFile(paths.blob), CONTENT));
}

/** No byte was asked for twice, and none was left out. */
function assertPartition(ranges: [number, number][]): void {
  const sorted = ranges.toSorted(([a], [b]) => a - b);
  assertEquals(sorted.map(([start]) => start), [0, ...sorted.slice(0, -1).map(([, end]) => end)]);
  assertEquals(sorted.at(-1)?.[1], CONTENT.length);
}

Deno.test("one connection fetches until it has been slow for a tenth of a second; then there are as many as allowed", async () => {
  await using transfer = await startTransfer(CONTENT);
  const { source, clock } = transfer;
  const first = await source.answerTo(0);
  clock.ms += 99;
  await first.give(10);
  assertEquals(source.ranges, [[0, 2_000]]);
  clock.ms += 1;
  await first.give(10);
  assertEquals(source.ranges, [[0, 2_000], [2_000, 4_000], [4_000, 6_000]]);
  source.serve();
  await assertFetched(transfer);
  assertPartition(source.ranges);
  assertEquals([source.mostAtOnce, transfer.retries], [3, []]);
});

Deno.test("a connection that is never slow for long stays alone", async () => {
  await using transfer = await startTransfer(CONTENT);
  const { source, clock } = transfer;
  let endBytes = 0;
  for (let part = 0; endBytes < CONTENT.length; part++) {
    const answer = await source.answerTo(part);
    endBytes = answer.range.end;
    clock.ms += 99;
    await answer.give(100);
    await answer.finish();
  }
  await assertFetched(transfer);
  assertPartition(source.ranges);
  assertEquals(source.mostAtOnce, 1);
});

Deno.test("a fast server is asked by no more connections than help", async () => {
  const limits = { connections: 8, chunkBytes: 65_536, partBytes: 21_000_000 };
  await using transfer = await startTransfer(new Uint8Array(100_000_000), { limits, sha256: "" });
  const first = await transfer.source.answerTo(0);
  for (let piece = 0; piece < 199; piece++) await first.give(100_000);
  transfer.clock.ms += 100;
  await first.give(100_000);
  // 20 MB in a tenth of a second: two and a half of that are as fast as disk and processor.
  assertEquals(transfer.source.running.length, 3);
  transfer.cancel(new Error("enough"));
});

Deno.test("parts grow until one takes a tenth of a second, and are small again at the end", async () => {
  const size = 400_000;
  const content = contentOf(size);
  await using transfer = await startTransfer(content, { limits: { connections: 1 } });
  const { source, clock } = transfer;
  let endBytes = 0;
  for (let part = 0; endBytes < size; part++) {
    const answer = await source.answerTo(part);
    const { range } = answer;
    endBytes = range.end;
    // 320 KB/s.
    clock.ms += (range.end - range.start) / 320;
    await answer.finish();
  }
  assertEquals(await transfer.ended, undefined);
  const lengths = source.ranges.map(([start, end]) => end - start);
  assertEquals(lengths.slice(0, 6), [2_000, 4_000, 8_000, 16_000, 32_000, 32_000]);
  assertEquals([Math.max(...lengths), lengths.at(-2)], [32_000, 2_000]);
});

Deno.test("more connections that make nothing faster are given up again, and not tried anew", async () => {
  const content = contentOf(40_000);
  await using transfer = await startTransfer(content, { limits: { connections: 4 } });
  const { source, clock } = transfer;
  const first = await source.answerTo(0);
  clock.ms += 100;
  // 10 bytes a millisecond.
  await first.give(1_000);
  assertEquals(source.running.length, 4);
  clock.ms += 499;
  await source.answers[1].give(1_500);
  clock.ms += 1;
  await source.answers[2].give(1_500);
  await source.answers[3].give(1_500);
  // 9 a millisecond with four of them: whoever is done goes.
  for (const answer of source.answers.slice(0, 3)) await answer.finish();
  assertEquals(source.running, [source.answers[3]]);
  await source.answers[3].finish();
  const next = await source.answerTo(4);
  clock.ms += 1_000;
  await next.give(10);
  assertEquals(source.running, [next]);
  source.serve();
  assertEquals(await transfer.ended, undefined);
  assertEquals([source.mostAtOnce, transfer.retries], [4, []]);
});

Deno.test("more connections that are faster stay", async () => {
  const content = contentOf(40_000);
  await using transfer = await startTransfer(content, { limits: { connections: 4 } });
  const { source, clock } = transfer;
  const first = await source.answerTo(0);
  clock.ms += 100;
  await first.give(200);
  clock.ms += 500;
  for (const answer of source.answers.slice(1, 4)) await answer.give(1_500);
  for (const answer of source.answers.slice(0, 4)) await answer.finish();
  await source.answerTo(7);
  assertEquals(source.running.length, 4);
  source.serve();
  assertEquals(await transfer.ended, undefined);
});

Deno.test("parts that come in any order and in pieces of any size make the file", async () => {
  await using transfer = await startSlowTransfer();
  const { source } = transfer;
  const [first, second, third] = source.answers;
  await third.finish();
  await second.give(700);
  const [fourth] = source.answers.slice(3);
  assertEquals(source.ranges[3], [6_000, 8_000]);
  await fourth.give(501);
  await first.give(1);
  assert(transfer.keptBytes() < 4_500);
  await second.finish();
  source.serve();
  await assertFetched(transfer);
  assertPartition(source.ranges);
  assertEquals(source.mostAtOnce, 3);
});

Deno.test("progress counts what all connections bring, and never goes back while nothing fails", async () => {
  await using transfer = await startSlowTransfer();
  const { source, haveBytes } = transfer;
  // Pieces that come at the same moment, and one that comes when nothing else is under way.
  await Promise.all(source.answers.map((answer, at) => answer.give(700 - at * 300)));
  assertEquals(haveBytes.at(-1), 2 + 700 + 400 + 100);
  await source.answers[1].give(5);
  assertEquals(haveBytes.at(-1), 2 + 700 + 405 + 100);
  source.serve();
  await assertFetched(transfer);
  assertEquals(haveBytes, haveBytes.toSorted((a, b) => a - b));
  assertEquals(haveBytes.at(-1), CONTENT.length);
});

Deno.test("a connection that breaks leaves its part to the others, and only what it had not brought is asked for again", async () => {
  await using transfer = await startSlowTransfer();
  const { source } = transfer;
  const [first, second] = source.answers;
  await second.give(700);
  await second.fail();
  assertEquals(source.running.length, 2);
  await first.finish();
  // Of the chunk that was not whole nobody knows.
  assertEquals(source.ranges[3], [2_500, 4_000]);
  source.serve();
  await assertFetched(transfer);
  assertEquals(transfer.retries, []);
  assertPartition(source.ranges.with(1, [2_000, 2_500]));
});

Deno.test("a connection that breaks is replaced when four parts have come well", async () => {
  await using transfer = await startTransfer(CONTENT, { limits: { partBytes: 500, connections: 2 } });
  const { source, clock } = transfer;
  const slow = async (index: number) => {
    const answer = await source.answerTo(index);
    clock.ms += 100;
    await answer.give(10);
    return answer;
  };
  const first = await slow(0);
  assertEquals(source.running.length, 2);
  await source.answers[1].fail();
  await first.finish();
  for (let part = 2; part < 5; part++) {
    const answer = await slow(part);
    assertEquals(source.running, [answer]);
    await answer.finish();
  }
  await slow(5);
  assertEquals(source.running.length, 2);
  source.serve();
  await assertFetched(transfer);
  assertEquals([source.mostAtOnce, transfer.retries], [2, []]);
});

Deno.test("when the last connection has broken, the attempt has failed; the next one fetches what is missing", async () => {
  await using transfer = await startSlowTransfer();
  const { source } = transfer;
  await source.answers[2].give(1_000);
  for (const [at, answer] of source.answers.slice(0, 3).entries()) {
    assertEquals(transfer.retries, []);
    await answer.fail(failure({ reason: `cut ${at}` }));
  }
  const again = await source.answerTo(3);
  assertEquals(transfer.retries.map(({ reason, attempt }) => [reason, attempt]), [["cut 2", 2]]);
  assertEquals(source.ranges.slice(3), [[0, 2_000]]);
  assertEquals(again.validator, { origin: "http://storage.test", etag: ETAG });
  source.serve();
  await assertFetched(transfer);
  assertEquals(source.ranges.slice(3), [[0, 2_000], [2_000, 4_000], [5_000, 7_000], [7_000, 9_000], [
    9_000,
    11_000,
  ], [11_000, 12_345]]);
});

Deno.test("a server that refuses one of several connections is asked by the others", async () => {
  const error = failure({ kind: "status", status: 429, retryAfterMs: 60_000 });
  await using transfer = await startSlowTransfer({ odd: { 1: { kind: "refused", error } } });
  const { source } = transfer;
  source.serve();
  await assertFetched(transfer);
  assertEquals(transfer.retries, []);
  assertPartition(source.ranges.toSpliced(1, 1));
});

Deno.test("a server that refuses them all is left alone for as long as it asks", async () => {
  const error = failure({ kind: "status", status: 503, retryAfterMs: 60_000 });
  const odd = {
    1: { kind: "refused", error },
    2: { kind: "refused", error },
    3: { kind: "refused", error },
  } as const;
  await using transfer = await startSlowTransfer({ odd });
  await transfer.source.answers[0].finish();
  await transfer.source.answerTo(4);
  assertEquals(transfer.retries.map(({ delayMs }) => delayMs), [60_000]);
  transfer.source.serve();
  await assertFetched(transfer);
});

Deno.test("a server that sends whole files only is asked once, by one connection, however slow it is", async () => {
  await using transfer = await startSlowTransfer({ odd: { 0: { kind: "whole", content: CONTENT } } });
  transfer.source.serve();
  await assertFetched(transfer);
  assertEquals([transfer.source.ranges, transfer.retries], [[[0, 2_000]], []]);
});

Deno.test("a whole file takes the place of what an earlier try left", async () => {
  await using transfer = await startTransfer(CONTENT, {
    keptBytes: 5_000,
    odd: { 0: { kind: "whole", content: CONTENT } },
  });
  const answer = await transfer.source.answerTo(0);
  assertEquals([answer.range, answer.validator], [{ start: 5_000, end: 7_000 }, undefined]);
  await answer.give(10);
  assertEquals(transfer.haveBytes, [5_000, 0, 10]);
  transfer.source.serve();
  await assertFetched(transfer);
});

Deno.test("one of several connections that is sent the whole file hangs up, and the others go on", async () => {
  const odd = { 2: { kind: "whole", content: contentOf(CONTENT.length, 2) } } as const;
  await using transfer = await startSlowTransfer({ odd });
  const { source } = transfer;
  await source.answers[0].finish();
  assert(source.answers[2].over);
  source.serve();
  await assertFetched(transfer);
  assertEquals(transfer.retries, []);
  assertPartition(source.ranges.toSpliced(2, 1));
});

Deno.test("a file that changes while several connections fetch it is begun anew by the last one", async () => {
  const changed = contentOf(CONTENT.length, 2);
  const whole = { kind: "whole", content: changed } as const;
  await using transfer = await startSlowTransfer({ odd: { 3: whole, 4: whole, 5: whole } });
  const { source } = transfer;
  for (const answer of source.answers.slice(0, 3)) await answer.finish();
  const last = await source.answerTo(5);
  await last.give(10);
  assertEquals(source.running, [last]);
  assertEquals(transfer.haveBytes.slice(-2), [0, 10]);
  source.odd.set(6, whole);
  source.serve();
  // The hub says another digest than the storage host's new file has.
  const error = await transfer.ended;
  assert(error instanceof RbeeError);
  assertEquals(error.code, "CHECKSUM_MISMATCH");
  assertEquals(transfer.retries.map(({ reason }) => reason), ["x.gguf came with a wrong checksum"]);
  assertEquals(await Array.fromAsync(Deno.readDir(transfer.paths.blob.replace(/\/x$/, ""))), []);
});

const wrongParts: [string, Omit<Extract<OddAnswer, { kind: "part" }>, "kind">, string][] = [
  ["from another byte", { says: { start: 6_001 } }, "came from another byte than 6000"],
  ["up to another byte", { says: { end: 7_999 } }, "came up to byte 7998 instead of 7999"],
  [
    "of a longer file",
    { says: { size: 12_346 } },
    "has 12346 bytes at the storage host, 12345 by the hub's list",
  ],
  ["with more bytes", { sends: { end: 8_001 } }, "goes on beyond the 12345 bytes of the hub's list"],
];
for (const [what, part, reason] of wrongParts) {
  Deno.test(`a connection that is sent a part ${what} ends them all, and the file is begun anew`, async () => {
    await using transfer = await startSlowTransfer({ odd: { 3: { kind: "part", ...part } } });
    const { source } = transfer;
    const [first, second] = source.answers;
    await second.give(1_000);
    await first.finish();
    void source.answers[3].finish();
    const again = await source.answerTo(4);
    assertEquals(source.running, [again]);
    assertEquals([again.range, again.validator], [{ start: 0, end: 2_000 }, undefined]);
    assertEquals(transfer.retries.map(({ reason }) => reason), [`x.gguf ${reason}`]);
    source.serve();
    await assertFetched(transfer);
    assertPartition(source.ranges.slice(4));
  });
}

Deno.test("a connection that ends early leaves the rest of its part to the others", async () => {
  const odd = { 1: { kind: "part", sends: { end: 3_600 } } } as const;
  await using transfer = await startSlowTransfer({ odd });
  const { source } = transfer;
  await source.answers[1].finish();
  assertEquals([source.running.length, source.answers.length], [2, 3]);
  await source.answers[0].finish();
  assertEquals(source.ranges[3], [3_500, 4_000]);
  source.serve();
  await assertFetched(transfer);
  assertEquals(transfer.retries, []);
});

Deno.test("whoever cancels ends all connections, and the whole chunks that came are kept", async () => {
  await using transfer = await startSlowTransfer();
  const { source } = transfer;
  const [first, second, third] = source.answers;
  await first.give(1_234);
  await second.give(499);
  await third.finish();
  await (await source.answerTo(3)).give(1_500);
  const reason = new Error("enough");
  transfer.cancel(reason);
  assertEquals(await transfer.ended, reason);
  assertEquals(source.running, []);
  assertEquals(transfer.keptBytes(), 1_000 + 0 + 2_000 + 1_500);
  assertEquals(source.answers.length, 4);
});

Deno.test("a disk that is full for one connection ends them all, and nothing is left", async () => {
  await using transfer = await startSlowTransfer();
  const { source } = transfer;
  using _full = patchFiles("write", () => () => Promise.reject(systemError("ENOSPC")));
  for (const answer of source.answers) await answer.give(600);
  await source.answers[1].finish();
  const error = await transfer.ended;
  assert(error instanceof RbeeError);
  assertEquals([error.code, transfer.retries, source.running], ["INSUFFICIENT_DISK", [], []]);
  assertEquals(await Array.fromAsync(Deno.readDir(transfer.paths.blob.replace(/\/x$/, ""))), []);
});

Deno.test("a file that an earlier try left whole is only verified", async () => {
  await using transfer = await startTransfer(CONTENT, { keptBytes: CONTENT.length });
  await assertFetched(transfer);
  assertEquals(transfer.source.answers, []);
});

Deno.test("wrong bytes that an earlier try left whole are found, and fetched anew", async () => {
  await using transfer = await startTransfer(contentOf(CONTENT.length, 2), {
    keptBytes: CONTENT.length,
    sha256: "0".repeat(64),
  });
  transfer.source.serve();
  const error = await transfer.ended;
  assert(error instanceof RbeeError);
  assertEquals([error.code, transfer.haveBytes.includes(0)], ["CHECKSUM_MISMATCH", true]);
  assertPartition(transfer.source.ranges);
});

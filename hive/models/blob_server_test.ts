/** Ranges, conditions, and files that change, end or are given up on their way; none may stay open. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { eventually } from "../../tests/helpers/eventually.ts";
import { serveBlob } from "./blob_server.ts";

/** Two pieces and a bit. */
const SIZE = 3_000_123;
const CONTENT = Uint8Array.from({ length: SIZE }, (_, i) => i % 251);
const SHORT = CONTENT.subarray(0, 1_000);
const DIGEST = "ab".repeat(32);
const ETAG = `"${DIGEST}"`;

interface Served {
  path: string;
  /** A GET of the file, with these headers. */
  ask(headers?: Record<string, string>): Promise<Response>;
}

/** A test with a file of this content; one that leaves it open fails. */
function blobTest(
  name: string,
  test: (served: Served) => Promise<void>,
  { content = CONTENT }: { content?: Uint8Array } = {},
): void {
  const fn = async () => {
    const path = await Deno.makeTempFile({ prefix: "rbee-blob-" });
    try {
      await Deno.writeFile(path, content);
      const ask: Served["ask"] = (headers = {}) =>
        serveBlob(new Request("http://hive/blob", { headers }), { path, digestHex: DIGEST });
      await test({ path, ask });
    } finally {
      await Deno.remove(path);
    }
  };
  Deno.test({ name, fn, sanitizeResources: true });
}

/** Whether this process has a file open no more, where that can be seen. */
async function isClosed(path: string): Promise<boolean> {
  if (Deno.build.os !== "linux") return true;
  for await (const { name } of Deno.readDir("/proc/self/fd")) {
    const target = await Deno.readLink(`/proc/self/fd/${name}`).catch(() => undefined);
    if (target === path) return false;
  }
  return true;
}

async function answered(response: Response) {
  const { status, headers } = response;
  const [range, length] = [headers.get("Content-Range"), headers.get("Content-Length")];
  return { status, range, length, bytes: await response.bytes() };
}

blobTest("without a range the whole file comes, with what a request for its rest needs", async ({ ask }) => {
  const response = await ask();
  const { headers } = response;
  assertEquals([headers.get("ETag"), headers.get("Accept-Ranges")], [ETAG, "bytes"]);
  assertEquals(await answered(response), { status: 200, range: null, length: String(SIZE), bytes: CONTENT });
});

const PARTS: [string, number, number][] = [
  ["bytes=0-0", 0, 1],
  ["bytes=100-2000100", 100, 2_000_101],
  [`bytes=${SIZE - 1}-${SIZE - 1}`, SIZE - 1, SIZE],
  // Open, and beyond the end: as far as there is something.
  ["bytes=1048576-", 1_048_576, SIZE],
  ["bytes=0-", 0, SIZE],
  [`bytes=10-${SIZE}`, 10, SIZE],
  ["bytes=7-999999999999999", 7, SIZE],
];
for (const [range, start, end] of PARTS) {
  blobTest(`${range} brings just that part`, async ({ ask }) => {
    assertEquals(await answered(await ask({ Range: range })), {
      ...{ status: 206, range: `bytes ${start}-${end - 1}/${SIZE}`, length: String(end - start) },
      bytes: CONTENT.subarray(start, end),
    });
  });
}

for (const range of [`bytes=${SIZE}-`, `bytes=${SIZE}-${SIZE + 9}`, "bytes=999999999999999-"]) {
  blobTest(`${range} begins where nothing is: 416 with the size`, async ({ ask }) => {
    const response = await ask({ Range: range });
    assertEquals([response.status, response.headers.get("Content-Range")], [416, `bytes */${SIZE}`]);
    assertEquals((await response.bytes()).length, 0);
  });
}

const NO_SINGLE_PART = [
  ...["bytes=0-1,5-6", "bytes=-500", "bytes=-", "bytes=a-b", "bytes=0x10-20", "bytes=1e2-2e2", "bytes=0-5;"],
  ...["bytes 0-5", "items=0-5", `bytes=0-${"9".repeat(400)}`],
];
blobTest("what is no range of one part brings the whole file", async ({ ask }) => {
  for (const range of NO_SINGLE_PART) {
    const { status, bytes } = await answered(await ask({ Range: range }));
    assertEquals([status, bytes], [200, SHORT], range);
  }
}, { content: SHORT });

blobTest("who has the beginning of another content gets this one whole", async ({ ask }) => {
  const part = async (ifRange: string, range = "bytes=900-") => {
    const { status, bytes } = await answered(await ask({ "Range": range, "If-Range": ifRange }));
    return [status, bytes.length];
  };
  assertEquals(await part(ETAG), [206, 100]);
  const others = [`"${"cd".repeat(32)}"`, `W/${ETAG}`, DIGEST, "Wed, 21 Oct 2026 07:28:00 GMT", ""];
  for (const other of others) assertEquals(await part(other), [200, 1_000], other);
  // Of the other content there may have been more.
  assertEquals(await part(others[0], "bytes=5000-"), [200, 1_000]);
}, { content: SHORT });

blobTest("an empty file is an empty answer, and no part of it can be had", async ({ ask }) => {
  const { status, length, bytes } = await answered(await ask());
  assertEquals([status, length, bytes.length], [200, "0", 0]);
  const part = await ask({ Range: "bytes=0-" });
  assertEquals([part.status, part.headers.get("Content-Range")], [416, "bytes */0"]);
}, { content: new Uint8Array(0) });

blobTest(
  "who leaves before the first piece, with it, or while it is read, leaves no file open",
  async ({ ask }) => {
    await (await ask({ Range: "bytes=5-" })).body!.cancel();
    const reader = (await ask()).body!.getReader();
    assert((await reader.read()).value!.length > 0);
    await reader.cancel();
    const hasty = (await ask()).body!.getReader();
    const piece = hasty.read();
    await hasty.cancel();
    assertEquals((await piece).done, true);
  },
);

blobTest("nothing is read from the disk before the other side wants it", async ({ path, ask }) => {
  const { read } = Deno.FsFile.prototype;
  let reads = 0;
  Deno.FsFile.prototype.read = function (buffer) {
    reads++;
    return read.call(this, buffer);
  };
  try {
    const reader = (await ask()).body!.getReader();
    await Deno.stat(path);
    assertEquals(reads, 0);
    await reader.read();
    await Deno.stat(path);
    assertEquals(reads, 1);
    await reader.cancel();
  } finally {
    Deno.FsFile.prototype.read = read;
  }
});

for (const left of [0, 1_500_000]) {
  blobTest(`a file that shrinks to ${left} bytes on its way breaks the answer off`, async ({ path, ask }) => {
    const response = await ask();
    await Deno.truncate(path, left);
    await assertRejects(() => response.bytes(), Error, `The file ends at byte ${left}.`);
  });
}

blobTest("a file that grows on its way comes as long as it was", async ({ path, ask }) => {
  const response = await ask();
  await Deno.writeFile(path, SHORT, { append: true });
  assertEquals(await response.bytes(), CONTENT);
});

blobTest(
  "a connection: a part, a client that hangs up, a file that shrinks, and an empty one",
  async (served) => {
    // A hole that no two sockets hold at once.
    await Deno.truncate(served.path, 256_000_000);
    const answers: Promise<void>[] = [];
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (request, { completed }) => {
        answers.push(completed);
        return await served.ask(Object.fromEntries(request.headers));
      },
    );
    using client = Deno.createHttpClient({});
    const get = (init: RequestInit = {}) =>
      fetch(`http://127.0.0.1:${server.addr.port}`, { ...init, client });

    const part = await answered(await get({ headers: { Range: "bytes=1000000-2999999" } }));
    assertEquals([part.status, part.bytes], [206, CONTENT.subarray(1_000_000, 3_000_000)]);
    assertEquals((await answered(await get({ headers: { Range: "bytes=256000000-" } }))).status, 416);

    const leaving = new AbortController();
    const left = (await get({ signal: leaving.signal })).body!.getReader();
    await left.read();
    leaving.abort();
    await assertRejects(() => left.read());

    const cut = (await get()).body!.getReader();
    await cut.read();
    await Deno.truncate(served.path, 0);
    await assertRejects(async () => {
      while (!(await cut.read()).done);
    });
    assertEquals((await answered(await get())).bytes.length, 0);
    await Promise.allSettled(answers);
    // That a client has hung up is known to the connection before it is to the stream.
    await eventually("all that was open to be closed", () => isClosed(served.path));
  },
);

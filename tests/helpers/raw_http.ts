// HTTP requests byte by byte, for what no proper client would send.

/** An answer as it came over the wire. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: string;
}

const HEAD_END = "\r\n\r\n";

/**
 * Sends `request` as it stands and reads one answer; `undefined` when the server closes the connection without one.
 */
export async function rawExchange(
  port: number,
  request: string | Uint8Array,
): Promise<RawAnswer | undefined> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  await writeAll(connection, typeof request === "string" ? latin1(request) : request);
  return await readAnswer(connection);
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  try {
    for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
  } catch {
    // A server may refuse before it has read all; its answer is what counts.
  }
}

async function readAnswer(connection: Deno.Conn): Promise<RawAnswer | undefined> {
  const buffer = new Uint8Array(65_536);
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const answer = parseAnswer(text);
    if (answer !== undefined) return answer;
    const count = await connection.read(buffer).catch(() => null);
    if (count === null) return undefined;
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}

function parseAnswer(text: string): RawAnswer | undefined {
  const headEnd = text.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const [statusLine, ...lines] = text.slice(0, headEnd).split("\r\n");
  const headers = new Headers(lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  }));
  const body = text.slice(headEnd + HEAD_END.length);
  if (new TextEncoder().encode(body).length < Number(headers.get("content-length") ?? 0)) return undefined;
  return { status: Number(statusLine.split(" ")[1]), headers, body };
}

/** Each character one byte, so that a test can write any of them as `\x..`. */
function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

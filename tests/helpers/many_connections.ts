/** Connections that nobody asks anything on. */

/** What becomes of a flood. */
export interface Flood extends Disposable {
  /** Connections that the other side took. */
  readonly opened: number;
}

/** Opens `count` connections to an address; every second one sends half of a request's head. */
export async function flood(url: string, count: number): Promise<Flood> {
  const { hostname, port } = new URL(url);
  const half = new TextEncoder().encode("GET /v1/health HTTP/1.1\r\nHost: x\r\nX-");
  const open: Deno.Conn[] = [];
  for (let i = 0; i < count; i++) {
    try {
      const connection = await Deno.connect({ hostname, port: Number(port) });
      open.push(connection);
      if (i % 2 === 1) await connection.write(half);
    } catch {
      // Refused or closed for another: the daemon's right.
    }
  }
  return {
    opened: open.length,
    [Symbol.dispose]() {
      for (const connection of open) connection.close();
    },
  };
}

/** Program and arguments that start a daemon which may open that many descriptors. */
export function withDescriptors(count: number): [string, ...string[]] {
  return ["sh", "-c", `ulimit -n ${count}; exec "$0" "$@"`];
}

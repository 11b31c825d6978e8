/** A port of loopback on which nobody listens. Another program may take it in between: then a start fails. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

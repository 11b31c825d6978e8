/**
 * Loaded before a worker's own program (`deno run --preload`): the worker is as always, but a request that holds the marked
 * text is its end, as a fault in native code would be.
 */
import { KILLS_ITS_WORKER } from "./conversations.ts";

const serve = Deno.serve as (
  options: unknown,
  handler: (request: Request, info: unknown) => unknown,
) => unknown;

Object.defineProperty(Deno, "serve", {
  value: (options: unknown, handler: (request: Request, info: unknown) => unknown) =>
    serve(options, async (request, info) => {
      if (request.method !== "POST") return await handler(request, info);
      const body = await request.bytes();
      if (new TextDecoder().decode(body).includes(KILLS_ITS_WORKER)) Deno.kill(Deno.pid, "SIGKILL");
      return await handler(new Request(request, { body }), info);
    }),
});

/**
 * Loaded before a worker's own program (`deno run --preload`): the worker is as always, but a request that holds the marked
 * text is its end as soon as it is read, as a fault in native code would be.
 */
import { KILLS_ITS_WORKER } from "./conversations.ts";

const parse = JSON.parse;

JSON.parse = (text, reviver) => {
  if (String(text).includes(KILLS_ITS_WORKER)) Deno.kill(Deno.pid, "SIGKILL");
  return parse(text, reviver);
};

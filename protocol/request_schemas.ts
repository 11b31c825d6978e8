/** What a queen tells of the requests that wait or run in it (`GET /v2/requests`). */
import * as z from "zod";
import { Priority } from "./priority.ts";
import { LoadNews } from "./queen_schemas.ts";

/** Most requests of one answer, and how many when nobody says how many. */
const MAX_REQUESTS_TOLD = 1_000;
const DEFAULT_REQUESTS_TOLD = 100;
const MAX_ID_CHARS = 64;

/** Query of `GET /v2/requests`. */
export const RequestsQuery = z.strictObject({
  /** Only those whose ids begin so. */
  id: z.string().min(1).max(MAX_ID_CHARS).optional(),
  /** Most that are told. */
  limit: z.string().regex(/^\d{1,4}$/, { error: "expected a whole number" }).transform(Number)
    .pipe(z.int().min(1).max(MAX_REQUESTS_TOLD)).default(DEFAULT_REQUESTS_TOLD),
  /** Only those behind this place: `next` of the page before. */
  after: z.string().regex(/^\d{1,15}$/, { error: "expected next of an earlier answer" }).transform(Number)
    .default(0),
});
/** A checked query. */
export type RequestsQuery = z.infer<typeof RequestsQuery>;

/** A waiting or running request, without its prompt. */
export const RequestInfo = z.object({
  /** A task's `job_id`; of other requests, the `X-Request-Id` of their answers. */
  id: z.string(),
  /** The id of the key that it came with. */
  key: z.string(),
  /** By which route it came. */
  route: z.string(),
  model: z.string(),
  priority: Priority,
  /** Slots that it takes: one for each of its answers. */
  n: z.int(),
  state: z.enum(["waiting", "running"]),
  /** When it came, and since when its state is what it is. */
  since_unix: z.number(),
  state_since_unix: z.number(),
  /** While it waits: its place, from 0; why; for how long it probably will; and the load that it waits for. */
  position: z.int().optional(),
  why: z.string().optional(),
  eta_ms: z.number().optional(),
  load: LoadNews.optional(),
  /** Where it runs. */
  node: z.string().optional(),
  worker_id: z.string().optional(),
  /** Tokens of its prompt; absent while they are not counted. */
  tokens_read: z.int().optional(),
  /** Tokens that were made for it so far. */
  tokens_made: z.int(),
});
/** See {@linkcode RequestInfo}. */
export type RequestInfo = z.infer<typeof RequestInfo>;

/** `GET /v2/requests`, in the order in which they came to this queen. */
export const RequestsResponse = z.object({
  requests: z.array(RequestInfo),
  /** All that the query is about, on whichever page. */
  total: z.int(),
  /** Where the next page begins; null: this is the last one. */
  next: z.string().nullable(),
});
/** See {@linkcode RequestsResponse}. */
export type RequestsResponse = z.infer<typeof RequestsResponse>;

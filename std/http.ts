// Narrow on purpose: @std/http as a whole loads a file server that no part needs.
// @ts-types="./http.d.ts"
export * from "deno-std/http/server_sent_event_parse_stream.js";

/** One server-sent event as parsed off the wire. */
export interface ServerSentEventParsedMessage {
  comment?: string;
  event?: string;
  data?: string;
  id?: string;
  retry?: number;
}

/** Bytes of an event stream → parsed events. */
export declare class ServerSentEventParseStream
  extends TransformStream<Uint8Array, ServerSentEventParsedMessage> {
  constructor(options?: { ignoreComments?: boolean });
}

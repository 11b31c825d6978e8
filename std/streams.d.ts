/** Splits text into lines at `\n` and `\r\n`; what follows the last one is a line, too, unless it is empty. */
export declare class TextLineStream extends TransformStream<string, string> {
  constructor();
}

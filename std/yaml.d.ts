/** Parses one YAML document. Throws `SyntaxError` with line and column. */
export declare function parse(content: string): unknown;

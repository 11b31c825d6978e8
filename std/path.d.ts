/** Joins and normalises. */
export declare function join(...paths: string[]): string;
/** Resolves to an absolute path. */
export declare function resolve(...paths: string[]): string;
/** The folder of a path. */
export declare function dirname(path: string): string;
/** The last segment of a path. */
export declare function basename(path: string, suffix?: string): string;
/** Whether a path is absolute. */
export declare function isAbsolute(path: string): boolean;
/** The way from one path to another. */
export declare function relative(from: string, to: string): string;
/** The path of a `file:` URL. */
export declare function fromFileUrl(url: string | URL): string;

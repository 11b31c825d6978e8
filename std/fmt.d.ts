/** Bold, unless `NO_COLOR` is set. */
export declare function bold(text: string): string;
/** Faint, unless `NO_COLOR` is set. */
export declare function dim(text: string): string;
/** Green, unless `NO_COLOR` is set. */
export declare function green(text: string): string;
/** Red, unless `NO_COLOR` is set. */
export declare function red(text: string): string;
/** Yellow, unless `NO_COLOR` is set. */
export declare function yellow(text: string): string;

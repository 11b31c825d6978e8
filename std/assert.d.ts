type ErrorClass<E extends Error> = new (...args: never[]) => E;

/** Thrown by every failed assertion. */
export declare class AssertionError extends Error {}
/** Fails unless `expr` is truthy. */
export declare function assert(expr: unknown, msg?: string): asserts expr;
/** Fails unless deeply equal. */
export declare function assertEquals<T>(actual: T, expected: T, msg?: string): void;
/** Fails when deeply equal. */
export declare function assertNotEquals<T>(actual: T, expected: T, msg?: string): void;
/** Fails unless `actual` holds `expected`. */
export declare function assertStringIncludes(actual: string, expected: string, msg?: string): void;
/** Fails unless `actual` matches. */
export declare function assertMatch(actual: string, expected: RegExp, msg?: string): void;
/** Fails when `actual` matches. */
export declare function assertNotMatch(actual: string, expected: RegExp, msg?: string): void;
/** Fails when null or undefined. */
export declare function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T>;
/** Fails unless `actual` is an instance. */
export declare function assertInstanceOf<E extends Error>(
  actual: unknown,
  expectedType: ErrorClass<E>,
  msg?: string,
): asserts actual is E;
/** Fails unless `fn` throws such an error; returns it. */
export declare function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass?: ErrorClass<E>,
  msgIncludes?: string,
): E;
/** Fails unless `fn` rejects with such an error; resolves to it. */
export declare function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass?: ErrorClass<E>,
  msgIncludes?: string,
): Promise<E>;

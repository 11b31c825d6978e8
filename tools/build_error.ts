/** A set-up or build that failed for a reason a person can do something about; the message is all there is to say. */
export class BuildError extends Error {}

/** What is running: compared between keeper and hive (EC8), shown by every health route. */
import project from "../deno.json" with { type: "json" };

/** rbee's own version, the same for every part of one checkout or archive. */
export const VERSION: string = project.version;

/** Version of the HTTP interface; part of every path (`/v1/…`). */
export const API_VERSION = "v1";

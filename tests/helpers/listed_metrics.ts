/** `docs/metrics.md`, as a table. */
import { ERROR_STATUS } from "../../protocol/errors.ts";
import { BackendName } from "../../protocol/spawn_request.ts";

/** What the list says of one metric. */
export interface ListedMetric {
  name: string;
  type: string;
  /** By label: the values that it may have; absent: those of {@linkcode OPEN}. */
  labels: Record<string, readonly string[] | undefined>;
}

/** Labels whose values nobody knows beforehand. */
const OPEN = ["_key_", "_model_", "_machine_"];

/** The metrics of one part. Those that a hive passes on are its own, and have a port. */
export async function listedMetrics(part: string): Promise<ListedMetric[]> {
  const text = await Deno.readTextFile(new URL("../../docs/metrics.md", import.meta.url));
  const section = text.split(/^## /m).find((each) => each.startsWith(`${part}\n`))!;
  return section.split("\n").filter((line) => line.startsWith("| `")).map((line) => {
    const [name, type, label, values] = line.split("|").slice(1).map((cell) =>
      cell.replaceAll("`", "").trim()
    );
    const names = label === "" ? [] : label.split(", ");
    return {
      name,
      type,
      labels: Object.fromEntries(names.map((name, i) => [name, known(values.split("; ")[i])])),
    };
  });
}

/** As {@linkcode listedMetrics}, of all that a hive's answer has. */
export async function listedOfHive(): Promise<ListedMetric[]> {
  const workers = await listedMetrics("llm-worker-rbee");
  return [
    ...await listedMetrics("rbee-hive"),
    ...workers.map((metric) => ({ ...metric, labels: { ...metric.labels, port: undefined } })),
  ];
}

function known(values: string): string[] | undefined {
  const all = values.split(", ");
  if (all.some((value) => OPEN.includes(value))) return undefined;
  return all.flatMap((value) => {
    if (value === "_backend_") return BackendName.options;
    return value === "_code_" ? Object.keys(ERROR_STATUS) : [value];
  });
}

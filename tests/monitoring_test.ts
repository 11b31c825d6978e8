/** The dashboard and the rules for alerts, against the list of metrics and a cluster that is scraped as documented. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { parse as parseYaml } from "@std/yaml";
import { basename, join } from "@std/path";
import * as z from "zod";
import type { Sample } from "../daemon/metrics.ts";
import { readMetrics } from "../daemon/metrics_text.ts";
import { emptyHome, runKeeper } from "../keeper/testing/keeper_process.ts";
import { type Cluster, CLUSTER_KEY, startCluster } from "./helpers/cluster.ts";
import { ROOT } from "./helpers/daemons.ts";
import { type ListedMetric, listedMetrics, listedOfHive } from "./helpers/listed_metrics.ts";
import { groupedBy, isSelected, selectorsIn } from "./helpers/promql.ts";

const Rules = z.strictObject({
  groups: z.array(z.strictObject({
    name: z.string(),
    rules: z.array(z.strictObject({
      alert: z.string().regex(/^Rbee[A-Z]\w+$/),
      expr: z.string(),
      for: z.string().regex(/^\d+[smh]$/),
      labels: z.strictObject({ severity: z.enum(["critical", "warning"]) }),
      annotations: z.strictObject({ summary: z.string(), description: z.string() }),
    })).min(1),
  })).min(1),
});

const Dashboard = z.object({
  panels: z.array(z.object({
    title: z.string(),
    targets: z.array(z.object({ expr: z.string(), legendFormat: z.string() })).min(1),
  })),
});

const ScrapeConfig = z.strictObject({
  scrape_configs: z.array(z.strictObject({
    job_name: z.string(),
    authorization: z.strictObject({ credentials_file: z.string() }),
    static_configs: z.array(z.strictObject({ targets: z.array(z.string()) })),
  })),
  rule_files: z.array(z.string()),
});

/** A question to Prometheus, and the labels that its answers are told by. */
interface Query {
  readonly of: string;
  readonly expr: string;
  readonly shown: readonly string[];
}

async function document(name: string): Promise<string> {
  return await Deno.readTextFile(join(ROOT, "docs", name));
}

async function panels(): Promise<Query[]> {
  return Dashboard.parse(JSON.parse(await document("grafana.json"))).panels.flatMap(({ title, targets }) =>
    targets.map(({ expr, legendFormat }) => ({
      of: title,
      expr,
      shown: [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label),
    }))
  );
}

async function rules(): Promise<Query[]> {
  return Rules.parse(parseYaml(await document("alerts.yml"))).groups.flatMap(({ rules }) =>
    rules.map(({ alert, expr, annotations }) => ({
      of: alert,
      expr,
      shown: [...JSON.stringify(annotations).matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label),
    }))
  );
}

/** Throws where a query asks for what no list has. */
function assertListed({ of, expr, shown }: Query, list: readonly ListedMetric[]): void {
  const selectors = selectorsIn(expr);
  assert(selectors.length > 0, of);
  const labels = new Set(["job", "instance"]);
  for (const { name, matchers } of selectors) {
    // Prometheus has this one of every target.
    const metric = name === "up"
      ? undefined
      : list.find(({ name: listed, type }) =>
        type === "histogram" ? new RegExp(`^${listed}_(bucket|sum|count)$`).test(name) : listed === name
      );
    assert(metric !== undefined || name === "up", `${of}: ${name} is not in metrics.md`);
    for (const label of Object.keys(metric?.labels ?? {})) labels.add(label);
    for (const { label, value } of matchers) {
      assert(labels.has(label), `${of}: ${name} has no label ${label}`);
      const known = metric?.labels[label];
      assert(known === undefined || known.includes(value), `${of}: ${label} is never ${value}`);
    }
  }
  const grouped = groupedBy(expr);
  for (const label of [...grouped, ...shown]) assert(labels.has(label), `${of}: no label ${label}`);
  // What a sum keeps is all that can be shown of it.
  if (!/\bby \(/.test(expr)) return;
  for (const label of shown) assert(grouped.includes(label), `${of}: ${label} is summed up`);
}

/** What Prometheus has of a cluster, scraped with the configuration in `operations.md` and its rules loaded. */
async function scraped({ queen, hives }: Cluster): Promise<Sample[]> {
  const markdown = await document("operations.md");
  const text = /^```yaml\n(scrape_configs:\n[^`]*)```$/m.exec(markdown)![1];
  const { scrape_configs, rule_files } = ScrapeConfig.parse(parseYaml(text));
  assertEquals(rule_files.map((path) => basename(path)), ["alerts.yml"]);
  // The queen's key is made as the document says; a hive has its own.
  const [, command] = /rbee-keeper (keys add prometheus [^>]*) > rbee-queen\.key/.exec(markdown)!;
  await using home = await emptyHome();
  const made = await runKeeper(command.replace(/http:\S+/, queen.url).split(" "), {
    home,
    env: { RBEE_API_KEY: CLUSTER_KEY },
  });
  assertEquals(made.code, 0, made.stderr);
  const keys: Record<string, string> = { "rbee-queen.key": made.stdout.trim(), "rbee-hive.key": CLUSTER_KEY };
  const urls: Record<string, string> = {
    "queen.local:8080": queen.url,
    ...Object.fromEntries(Object.entries(hives).map(([name, { url }]) => [`${name}.local:9200`, url])),
  };
  const samples: Sample[] = [];
  for (const { job_name: job, authorization, static_configs } of scrape_configs) {
    const key = keys[basename(authorization.credentials_file)];
    for (const instance of static_configs.flatMap(({ targets }) => targets)) {
      const response = await fetch(`${urls[instance]}/metrics`, {
        headers: { Authorization: `Bearer ${key}` },
      });
      const body = await response.text();
      assertEquals(response.status, 200, `${job} ${instance}: ${body}`);
      assertMatch(response.headers.get("Content-Type")!, /^text\/plain; version=0\.0\.4/);
      const told = [...readMetrics(body).flatMap(({ samples }) => samples), {
        ...{ metricName: "up", labels: {}, value: 1 },
      }];
      samples.push(...told.map((sample) => ({ ...sample, labels: { ...sample.labels, job, instance } })));
    }
  }
  return samples;
}

Deno.test("dashboard and rules ask for metrics, labels and values that there are", async () => {
  const list = [...await listedMetrics("queen-rbee"), ...await listedOfHive()];
  for (const query of [...await panels(), ...await rules()]) assertListed(query, list);
});

Deno.test("each panel and each rule finds something in a cluster that is scraped as documented", async () => {
  await using cluster = await startCluster({ nodes: ["mac", "gpu"] });
  const asked = { model: "builtin:stories", prompt: "Once", max_tokens: 5 };
  await Array.fromAsync((await cluster.queen.client.run(asked)).events);
  const samples = await scraped(cluster);
  const missing = [...await panels(), ...await rules()].flatMap(({ of, expr, shown }) =>
    selectorsIn(expr).filter((selector) =>
      !samples.some((sample) =>
        isSelected(sample, selector) && shown.every((label) => label in sample.labels)
      )
    ).map(({ name }) => `${of}: ${name}`)
  );
  assertEquals(missing, []);
});

/** `models verify`: are the files still what they were? */
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { LoadedCommand } from "../cli.ts";
import type { ModelsVerifyFlags } from "../table/models.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { explain } from "../explain.ts";
import { referenceOf, unknownModel } from "../known_models.ts";
import type { Output } from "../output.ts";
import { nodeWithModel } from "../queens_node.ts";
import type { ReachedHive } from "../phases/reach_hive.ts";
import { type Verified, verifyModel } from "../phases/verify_model.ts";
import { withHive } from "../phases/with_hive.ts";

/** The command. */
export const MODELS_VERIFY: LoadedCommand<ModelsVerifyFlags> = { run: runModelsVerify };

/** How one model did. */
type Report = { reference: string } & ({ verified: Verified } | { error: RbeeError });

/** What is true of one model; any other error would come with the next one, too. */
const OF_ONE_MODEL: readonly string[] = [
  "CHECKSUM_MISMATCH",
  "INVALID_MODEL",
  "MODEL_NOT_FOUND",
  "MODEL_UNREACHABLE",
];

async function runModelsVerify(context: CommandContext, flags: ModelsVerifyFlags): Promise<number> {
  return await withHive(flags, context, async (hive, phases) => {
    const { output } = phases;
    const reports: Report[] = [];
    const add = async (report: Report) => {
      reports.push(report);
      if (!output.json) await show(report, output);
    };
    if (flags.model === undefined) await verifyAll(hive, add, phases);
    else await add(await verifyNamed(flags.model, hive, phases));
    if (output.json) await output.document({ node: hive.node.name, models: reports.map(asJson) });
    return reports.some((report) => "error" in report) ? 1 : 0;
  }, { choose: flags.model === undefined ? undefined : nodeWithModel(flags.model) });
}

/** One that is damaged does not keep the others from being looked at. */
async function verifyAll(
  hive: ReachedHive,
  add: (report: Report) => Promise<void>,
  context: PhaseContext,
): Promise<void> {
  const { models } = await hive.client.models({ signal: context.signal });
  if (models.length === 0) context.output.say(`There are no models on ${hive.node.name} yet.`);
  for (const { reference } of models) {
    try {
      await add({ reference, verified: await verifyModel(hive, reference, context) });
    } catch (error) {
      if (!(error instanceof RbeeError) || !OF_ONE_MODEL.includes(error.code)) throw error;
      await add({ reference, error });
    }
  }
}

async function verifyNamed(given: string, hive: ReachedHive, context: PhaseContext): Promise<Report> {
  const { models } = await hive.client.models({ signal: context.signal });
  const reference = referenceOf(given, models);
  try {
    return { reference, verified: await verifyModel(hive, reference, context) };
  } catch (error) {
    const unknown = error instanceof RbeeError && error.code === "MODEL_NOT_FOUND";
    // Asked first, because what lies on the disk need not be in the catalog yet.
    throw unknown ? unknownModel(given, models) : error;
  }
}

async function show(report: Report, output: Output): Promise<void> {
  if ("error" in report) {
    const { headline, notes } = explain(report.error);
    return output.error(headline, notes);
  }
  const recorded = report.verified.files.some((file) => file.recorded);
  const note = recorded ? ": recorded, later verifications compare with this one" : "";
  await output.line(`ok  ${report.reference}${note}`);
}

function asJson(report: Report): unknown {
  const { reference } = report;
  if ("error" in report) return { reference, ok: false, error: report.error.toBody(newCorrelationId()) };
  const { sha256, files } = report.verified;
  return { reference, ok: true, sha256, files };
}

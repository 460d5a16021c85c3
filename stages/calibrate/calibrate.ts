/**
 * The stage `calibrate`: the windows of tokens that a model is expanded for, and those that it is measured on.
 *
 * @module
 */

import { join } from "@std/path";
import { z } from "zod";
import { openPretrainedTokenizer } from "../../model/pretrained/tokenizer.ts";
import { defineStage, type StageContext } from "../../pipeline/stage.ts";
import type { HubOptions } from "../download/sources/hub/hub.ts";
import { linkModel } from "../pretrained/model_files.ts";
import {
  type CalibrationSection,
  calibrationTextSchema,
  evaluationTextSchema,
  LONGEST_WINDOW,
} from "./config.ts";
import type { TextsResult } from "./result.ts";
import { findText, type FoundText, type TextRole } from "./texts.ts";
import { calibrationWindows, evaluationWindows, type Windows } from "./windows.ts";

const paramsSchema = z.strictObject({
  calibration: calibrationTextSchema,
  evaluation: evaluationTextSchema,
  seed: z.int().min(0).max(2 ** 31 - 1),
});

/** Parameters of the stage. */
export type CalibrateParams = z.infer<typeof paramsSchema>;

/** Windows of C4 that models are measured on, unless the configuration says otherwise. */
const C4_WINDOWS = 256;

/** The `calibrate` stage: `windows/calibration.u32` and `windows/evaluation.u32`, little-endian token ids, window after window. */
export const calibrate = defineStage<CalibrateParams>({
  name: "calibrate",
  description: "Tokenise the texts that a model is expanded for and measured on, in windows",
  module: import.meta.url,
  params: paramsSchema,
  outputs: { windows: "directory", texts: "json" },
  run: (context) => runCalibrate(context),
});

/**
 * Runs {@linkcode calibrate}.
 *
 * @param hub Where the hub is and how patient to be; tests change it.
 */
export async function runCalibrate(
  context: StageContext<CalibrateParams>,
  hub: HubOptions = {},
): Promise<void> {
  const { params, stateDir, signal, log } = context;
  const { calibration, evaluation, seed } = params;
  const [model] = context.inputs.model ?? [];
  if (!model) throw new Error(`${context.node.name} has no input named model`);
  const { about, folder } = await linkModel(model, stateDir);
  const tokenizer = await openPretrainedTokenizer(folder, about.vocab_size);
  const lengthOf = (section: TextRole, { length }: Pick<CalibrationSection, "length">) => {
    const longest = about.positions ?? Infinity;
    const tokens = length ?? Math.min(longest, LONGEST_WINDOW);
    if (tokens <= longest) return tokens;
    throw new RangeError(`${section}.length is ${tokens}; the model has ${longest} positions`);
  };
  const lengths = {
    calibration: lengthOf("calibration", calibration),
    evaluation: lengthOf("evaluation", evaluation),
  };
  const progress = context.progress(2, { unit: "texts" });
  const described: Partial<Record<TextRole, TextsResult["evaluation"]>> = {};
  let starts: readonly number[] = [];
  for (const role of ["calibration", "evaluation"] as const) {
    const section = params[role];
    const text = await findText(context, section, { role, hub });
    const options = { tokenizer, length: lengths[role], section: role, signal };
    const most = evaluation.windows ?? (evaluation.dataset === "c4" ? C4_WINDOWS : undefined);
    const windows = role === "calibration"
      ? await calibrationWindows(text, { ...options, samples: calibration.samples, seed })
      : await evaluationWindows(text, { ...options, most });
    requireKnown(windows, about.vocab_size, role);
    if (role === "calibration") starts = windows.starts;
    await writeTokens(join(context.output("windows"), `${role}.u32`), windows.tokens);
    described[role] = describe(section.dataset, text, windows);
    progress.update(role === "calibration" ? 1 : 2, role);
    log.info(
      `${role}: ${windows.starts.length} windows of ${windows.length} tokens, of ${windows.text_tokens}`,
    );
  }
  context.json("texts", {
    calibration: { ...described.calibration!, starts },
    evaluation: described.evaluation!,
  });
}

function describe(
  dataset: TextsResult["evaluation"]["dataset"],
  { files, revision }: FoundText,
  { documents, bytes, text_tokens, starts, length }: Windows,
): TextsResult["evaluation"] {
  return {
    dataset,
    files: files.map((file) => ({ ...file })),
    revision,
    documents,
    bytes,
    tokens: text_tokens,
    windows: starts.length,
    length,
  };
}

/** A tokenizer's vocabulary is never larger than its model's, but its ids are whatever its file says. */
function requireKnown({ tokens }: Windows, vocabulary: number, role: TextRole): void {
  const bad = tokens.find((id) => id >= vocabulary);
  if (bad === undefined) return;
  throw new RangeError(
    `${role}: the token ${bad} is not in the model's vocabulary of ${vocabulary}`,
  );
}

async function writeTokens(path: string, tokens: Uint32Array<ArrayBuffer>): Promise<void> {
  await Deno.writeFile(path, new Uint8Array(tokens.buffer));
}

/**
 * The stages of Sparse Expansion.
 *
 * @module
 */

import { calibrate } from "../calibrate/calibrate.ts";
import { download } from "../download/download.ts";
import { expand } from "../expand/expand.ts";
import { expansionReport } from "../expansion_report/report.ts";
import { perplexity } from "../perplexity/perplexity.ts";
import { publish } from "../pretrained/publish.ts";
import { pretrained } from "../pretrained/pretrained.ts";
import { tokenize } from "../tokenize/tokenize.ts";
import { train } from "../train/train.ts";
import type { SparseExpansionStages } from "./experiment.ts";

/** Every stage of the experiment. */
export const STAGES: SparseExpansionStages = {
  download,
  tokenize,
  train,
  publish,
  pretrained,
  calibrate,
  expand,
  perplexity,
  report: expansionReport,
};

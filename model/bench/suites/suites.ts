/**
 * All suites by name.
 *
 * @module
 */

import { attentionSuite } from "./attention_suite.ts";
import { copySuite } from "./copy_suite.ts";
import { costSuite } from "./cost_suite.ts";
import { gemmSuite } from "./gemm_suite.ts";
import { groupedSuite } from "./grouped_suite.ts";
import { inferenceSuite } from "./inference_suite.ts";
import { pruningSuite } from "./pruning_suite.ts";
import { expertsSuite, layerSuite } from "./layer_suite.ts";
import { modelSuite } from "./model_suite.ts";
import { scalingSuite, stepSuite } from "./step_suite.ts";
import type { BenchCase, Suite, SuiteContext, SuiteName } from "./suite.ts";

const BY_NAME: Readonly<Record<SuiteName, Suite>> = {
  copy: copySuite,
  gemm: gemmSuite,
  grouped: groupedSuite,
  pruning: pruningSuite,
  attention: attentionSuite,
  layer: layerSuite,
  experts: expertsSuite,
  step: stepSuite,
  scaling: scalingSuite,
  cost: costSuite,
  inference: inferenceSuite,
  model: modelSuite,
};

/** The cases of these suites, in their order. */
export function casesOf(names: readonly SuiteName[], context: SuiteContext): BenchCase[] {
  return names.flatMap((name) => BY_NAME[name](context));
}

/**
 * The base beside the paper's figure 4 at equal tokens: a part of "Training".
 *
 * @module
 */

import { evaluateFit } from "../theory/fit.ts";
import { PAPER } from "../theory/paper.ts";
import { baseModels, curve, type StepValue, type TrainedModel } from "../data.ts";
import { type Block, md } from "../document.ts";
import { fixed, whole } from "../facts.ts";
import { compact } from "../figures/series.ts";
import type { SectionContext } from "./context.ts";

/** Rows of the table at most. */
const ROWS = 9;

/** Whether nats a token mean the same as in the paper: they are those of its vocabulary. */
export function comparesWithPaper(context: SectionContext): boolean {
  return context.data.dataset?.result.vocabulary === PAPER.vocabulary;
}

/** The paper's law where its training had seen as many tokens; `tokens` are those of at least one of its steps. */
function paperLawAt(tokens: number): number {
  return evaluateFit(PAPER.fit, tokens / PAPER.tokensPerStep);
}

/** The table, where a loss can be compared at all. */
export function equalTokensBlocks(context: SectionContext): Block[] {
  const { data, facts } = context;
  if (facts === undefined || !comparesWithPaper(context)) return [];
  const { vocab_size } = facts.architecture.config;
  const models = baseModels(data);
  const [first] = models;
  if (first === undefined) return [];
  const steps = milestones(curve(first, "validation_nats").map(({ step }) => step))
    .filter((step) => step * facts.tokensPerStep >= PAPER.tokensPerStep);
  if (steps.length === 0) return [];
  const rows = steps.map((step) => {
    const tokens = step * facts.tokensPerStep;
    const law = paperLawAt(tokens);
    const held = meanOf(models, (model) => valueAt(curve(model, "validation_nats"), step));
    const learned = meanOf(models, (model) => meanBefore(curve(model, "loss"), step));
    return [
      compact(tokens),
      whole(step),
      learned === undefined ? "" : fixed(learned, 3),
      held === undefined ? "" : fixed(held, 3),
      fixed(law, 3),
      held === undefined ? "" : fixed(held - law, 3),
    ];
  });
  return [
    {
      kind: "table",
      title: "Beside the paper's figure 4 at equal tokens, nats a token",
      header: ["tokens", "step", "training", "held out", "paper's law", "held out − law"],
      rows,
      numbersFrom: 0,
    },
    md`*Training* is the mean of the losses logged over the last tenth of the steps until then; seeds are averaged. The law is all that the paper gives of its curve in numbers: a fit over the whole of its training, about ${
      whole(PAPER.tokens / PAPER.tokensPerStep)
    } steps, with R² ${
      String(PAPER.fit.r2)
    }. It says little about its first hundreds of steps: at step 1 it gives ${
      fixed(PAPER.fit.a, 2)
    } nats, where a model that knows nothing needs ln ${whole(vocab_size)} = ${
      fixed(Math.log(vocab_size), 2)
    }. So the last rows are those to read, and only as to whether both are in the same region: text, learning rate and the passes over the text may differ, too.`,
  ];
}

/** Of ascending steps so many that they are about evenly apart in ln(step), the first and last among them. */
function milestones(steps: readonly number[]): number[] {
  const first = steps[0];
  const last = steps.at(-1);
  if (first === undefined || last === undefined || steps.length <= ROWS) return [...steps];
  const chosen = Array.from({ length: ROWS }, (_, i) => {
    const goal = Math.log(first) + (Math.log(last) - Math.log(first)) * i / (ROWS - 1);
    return steps.reduce((best, step) =>
      Math.abs(Math.log(step) - goal) < Math.abs(Math.log(best) - goal) ? step : best
    );
  });
  return [...new Set(chosen)];
}

function valueAt(points: readonly StepValue[], step: number): number | undefined {
  return points.find((point) => point.step === step)?.value;
}

function meanBefore(points: readonly StepValue[], step: number): number | undefined {
  const near = points.filter((p) => p.step <= step && p.step > 0.9 * step);
  return near.length === 0 ? undefined : near.reduce((sum, p) => sum + p.value, 0) / near.length;
}

function meanOf(
  models: readonly TrainedModel[],
  value: (model: TrainedModel) => number | undefined,
): number | undefined {
  const values = models.flatMap((model) => value(model) ?? []);
  return values.length === 0 ? undefined : values.reduce((sum, v) => sum + v, 0) / values.length;
}

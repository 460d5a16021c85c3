/**
 * "Training": the curve with its fit beside the paper's, and expert usage over training.
 *
 * @module
 */

import { expertUsage } from "../figures/expert_usage.ts";
import { routingDistribution } from "../figures/routing_distribution.ts";
import { trainingCurve } from "../figures/training_curve.ts";
import { evaluateFit } from "../theory/fit.ts";
import { PAPER } from "../theory/paper.ts";
import type { Evaluation } from "../../evaluate/result.ts";
import { baseEvaluations, baseModels, curve } from "../data.ts";
import { type Block, join, md, type Section } from "../document.ts";
import { fixed, whole } from "../facts.ts";
import type { SectionContext } from "./context.ts";
import { comparesWithPaper, equalTokensBlocks } from "./equal_tokens.ts";

/** The training curve and the fit. */
export async function trainingSection(context: SectionContext): Promise<Section> {
  const { data, figures } = context;
  const models = baseModels(data);
  const drawn = trainingCurve(models, {
    fitFrom: 1,
    tokensPerStep: comparesWithPaper(context) ? context.facts?.tokensPerStep : undefined,
  });
  const blocks: Block[] = [];
  if (drawn === undefined) {
    blocks.push(md`No training loss was recorded in this run.`);
  } else {
    const { figure, fit } = drawn;
    const n = models.length;
    blocks.push(
      md`Loss of each logged step of the base, ${n} ${
        n === 1 ? "seed" : "seeds"
      }, and the law \`L = a − b ln x\` that the paper fits to its figure 4. Here *x* is the optimiser step, counted from 1; *a* and *b* are least squares over all logged steps of all seeds, warm-up included, which is the plainest choice and not the most flattering.`,
      await figures.add(figure, {
        from: models,
        caption: md`Loss at each logged step${
          models.some((m) => curve(m, "loss").length > 400)
            ? " (means of buckets of equal width in ln x; the fit uses every step)"
            : ""
        }. Held-out points are evaluations during training on a fixed part of the held-out split.`,
      }),
    );
    if (fit) {
      blocks.push(
        {
          kind: "table",
          title: "Fit of L = a − b ln x",
          header: ["", "a", "b", "R²", "residual, nats", "steps", "points"],
          rows: [
            [
              "this run",
              fixed(fit.a, 3),
              fixed(fit.b, 3),
              fixed(fit.r2, 3),
              fixed(fit.rmse, 3),
              `${whole(fit.from)} to ${whole(fit.to)}`,
              whole(fit.n),
            ],
            [
              "paper",
              fixed(PAPER.fit.a, 2),
              fixed(PAPER.fit.b, 3),
              fixed(PAPER.fit.r2, 1),
              "not given",
              "not given",
              "not given",
            ],
          ],
          numbersFrom: 1,
        },
        join(
          md`*a* is the loss at step 1 and *b* the nats gained by each e-fold of steps, so both depend on the tokens of a step, the learning rate and the vocabulary; agreement with the paper's values would mean little at another size. A logarithm also has no floor: the law has to fail eventually.`,
          md`The authors' numbers do not quite meet each other either: with 32,768 tokens a step, 4 B tokens are ${
            whole(PAPER.tokens / PAPER.tokensPerStep)
          } steps, where its law gives ${
            fixed(evaluateFit(PAPER.fit, PAPER.tokens / PAPER.tokensPerStep), 2)
          } nats, while their perplexity of ${PAPER.perplexity} is ${
            fixed(Math.log(PAPER.perplexity), 2)
          } nats. The unit of *x* there may be another.`,
          md`**Falsified by:** residuals with a clear bend (a power law with a floor then fits better), or a held-out curve that leaves the training curve.`,
        ),
      );
      blocks.push(...equalTokensBlocks(context));
    } else blocks.push(md`The run is too short for a fit: it takes three logged steps.`);
  }
  return { id: "training", title: "Training curve", blocks };
}

/** Expert usage, unevenness and the distribution of choices. */
export async function usageSection(context: SectionContext): Promise<Section> {
  const { data, figures } = context;
  const models = baseModels(data);
  const usage = expertUsage(models);
  const [evaluation] = baseEvaluations(data);
  const distribution = routingDistribution(evaluation?.result.layers ?? []);
  const blocks: Block[] = [];
  if (usage) {
    blocks.push(
      md`*Usage* is the share of experts chosen at least once, *unevenness* the Kullback–Leibler divergence of their use from an even one; both, and the Gini coefficient of the table (0 is even, near 1 a few experts), over the held-out tokens of an evaluation and averaged over expert layers. Usage can only be high when there are many more choices than experts, so it says something about the number of tokens, too.`,
      await figures.add(usage, {
        from: models,
        caption: md`Base model, one line a seed (${models.length}).`,
      }),
    );
  }
  if (distribution && evaluation) {
    blocks.push(
      await figures.add(distribution, {
        from: [evaluation],
        caption: md`Counts of the final evaluation over ${
          whole(evaluation.result.tokens)
        } held-out tokens${evaluation.seed === undefined ? "" : `, seed ${evaluation.seed}`}.`,
      }),
    );
    const rows = layerRows(evaluation.result.layers);
    if (rows.length > 0) {
      blocks.push({
        kind: "table",
        title: "Use of experts by layer",
        header: ["layer", "experts a token", "used, %", "unevenness, nats", "Gini"],
        rows,
        numbersFrom: 1,
      });
    }
  }
  if (blocks.length === 0) {
    blocks.push(md`No expert usage was recorded in this run (a dense base has none).`);
  } else {
    blocks.push(
      md`**"The router uses the experts" is falsified by:** usage that falls, or unevenness that climbs, while the loss still improves. That is collapse; the batch-norm ablation below is the paper's remedy put to the test.`,
    );
  }
  return { id: "experts", title: "How experts are used", blocks };
}

function layerRows(layers: Evaluation["layers"]): string[][] {
  return layers.map((
    { layer, experts_per_token, expert_usage, expert_unevenness, expert_gini },
  ) => [
    String(layer),
    experts_per_token === undefined ? "not recorded" : fixed(experts_per_token, 2),
    fixed(100 * expert_usage, 1),
    fixed(expert_unevenness, 3),
    fixed(expert_gini, 3),
  ]);
}

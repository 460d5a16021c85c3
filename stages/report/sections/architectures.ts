/**
 * "Architectures": kinds of feed-forward layer and routers beside each other, at the costs that each has.
 *
 * @module
 */

import { comparedFactors, type Comparison, type Cost, COSTS } from "../architectures.ts";
import { ablationFigure } from "../figures/ablation.ts";
import { architectureUseFigure } from "../figures/architecture_use.ts";
import { type Front, paretoFigure } from "../figures/pareto.ts";
import { bytesText, compact } from "../figures/series.ts";
import { type Block, md, type Prose, type Section } from "../document.ts";
import { fixed, whole } from "../facts.ts";
import { conclusion, plusMinus } from "./ablations.ts";
import type { SectionContext } from "./context.ts";

/** Costs within this part of the base's are alike. */
const ALIKE = 0.01;

/** The section, when a factor changes the kind of the layers or their router; none otherwise. */
export async function architectureSections(context: SectionContext): Promise<Section[]> {
  const { comparisons } = comparedFactors(context.data);
  if (comparisons.length === 0) return [];
  const blocks: Block[] = [
    md`Feed-forward layers of several kinds under one trunk, trained on the same text in the same order. *Stored* parameters are those of a checkpoint, *active* ones those that a token uses. Operations are those of a token's forward pass, two a multiply-add, with a generated expert counted for each token that keeps it, however the layer runs. Speed and memory are measured, in training. Intervals are 95 % t-intervals over seeds, differences are paired by seed.`,
  ];
  for (const comparison of comparisons) blocks.push(...await comparisonBlocks(context, comparison));
  blocks.push(
    md`**A ranking is falsified by:** fresh seeds whose paired interval lies on the other side of zero, or another learning rate under which the order changes: one rate serves all kinds here, and none was tuned. Kinds with many experts see few tokens each, so a ranking at this length of training is none for a longer one.`,
  );
  return [{ id: "architectures", title: "Architectures", blocks }];
}

async function comparisonBlocks(
  { data, figures }: SectionContext,
  comparison: Comparison,
): Promise<Block[]> {
  const cells = new Set(comparison.values.map(({ cell }) => cell));
  const models = data.models.filter(({ cell }) => cell !== undefined && cells.has(cell));
  const evaluations = data.evaluations.filter(({ cell }) => cell !== undefined && cells.has(cell));
  const terms = termsText(comparison);
  const blocks: Block[] = [
    await figures.add(ablationFigure(comparison), {
      from: [data.ablation, ...models],
      caption: md`${conclusion(comparison)} Grey: the base.${terms === "" ? "" : ` ${terms}`}`,
    }),
    costTable(comparison),
  ];
  const pareto = paretoFigure(comparison);
  if (pareto) {
    blocks.push(
      await figures.add(pareto.figure, {
        from: [data.ablation, ...models],
        caption:
          md`Filled: architectures that no other beats, with a lower mean loss at a cost that is as low; costs within 1 % are alike. Dashed: their front. Means decide, so a front is no more certain than the intervals are narrow${
            sameSeeds(comparison) ? "" : ", and some means here are of fewer seeds than others"
          }. ${frontText(pareto.fronts)}`,
      }),
    );
  }
  const use = architectureUseFigure(comparison);
  if (use) {
    blocks.push(
      await figures.add(use, {
        from: [...models, ...evaluations],
        caption: useCaption(comparison),
      }),
    );
  }
  const rows = useRows(comparison);
  if (rows.length > 0) {
    blocks.push({
      kind: "table",
      title: `Use of experts by layer: ${comparison.title}`,
      header: [
        "architecture",
        "layer",
        "experts",
        "kept a token",
        "used, %",
        "divergence, nats",
        "Gini",
        "hottest, × even",
        "hottest experts",
      ],
      rows,
      numbersFrom: 1,
    });
  }
  return blocks;
}

const COST_NAMES: Readonly<Record<Cost, string>> = {
  stored: "Stored parameters",
  active: "Active parameters",
  flops: "Operations of a token",
};

/** The costs that all architectures have alike, and how far the others go, as counted. */
function termsText({ values }: Comparison): string {
  const base = values.find((value) => value.base)?.costs;
  const sentences = COSTS.flatMap((cost) => {
    const reference = base?.[cost];
    const others = values.flatMap(({ costs }) => costs[cost] ?? []);
    if (reference === undefined || others.length < values.length) return [];
    const ratios = others.map((value) => value / reference);
    const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
    const furthest = Math.max(1 - low, high - 1);
    return furthest <= ALIKE
      ? [`${COST_NAMES[cost]} are within ${fixed(100 * furthest, 1)} % of the base's.`]
      : [`${COST_NAMES[cost]} are ${fixed(low, 2)} to ${fixed(high, 2)} times the base's.`];
  });
  return sentences.join(" ");
}

/** Whether every value was trained with the seeds of the others. */
function sameSeeds({ values }: Comparison): boolean {
  return new Set(values.map(({ seeds }) => seeds.toSorted((a, b) => a - b).join())).size === 1;
}

const FRONT_NAMES: Readonly<Record<string, string>> = {
  stored: "stored parameters",
  active: "active parameters",
  flops: "operations",
  tokens_per_second: "speed",
};

function frontText(fronts: readonly Front[]): string {
  const parts = fronts.map(({ axis, labels }) => `by ${FRONT_NAMES[axis]} ${labels.join(", ")}`);
  return `Fronts: ${parts.join("; ")}.`;
}

function useCaption({ values }: Comparison): Prose {
  const seeds = Math.max(...values.map((value) => value.seeds.length));
  return md`${
    seeds > 1 ? "Means over seeds. " : ""
  }Left: over training, the mean of the layers with experts. Right: each layer on the held-out text after training. The divergence is Kullback and Leibler's from even use, so its largest value is ln N and kinds with few experts can only have a small one. Behind beams the rows of the tables are counted, not the experts. A kind that isn't there has no experts.`;
}

function costTable(comparison: Comparison): Block {
  const { values } = comparison;
  const counted = (value: number | undefined) => value === undefined ? "" : compact(value);
  const dense = values.some((v) => v.againstDense !== undefined);
  const speed = values.some((v) => v.speed !== undefined);
  const memory = values.some((v) => v.memoryBytes !== undefined);
  return {
    kind: "table",
    title: comparison.title,
    header: [
      "architecture",
      "n",
      "nats a token",
      "difference, paired",
      ...(dense ? ["against dense, paired"] : []),
      "bits a byte",
      "stored",
      "active",
      "operations",
      ...(speed ? ["tokens/s"] : []),
      ...(memory ? ["memory"] : []),
    ],
    rows: values.map((v) => [
      v.base ? `${v.label} (base)` : v.label,
      String(v.nats.n),
      fixed(v.nats.mean, 3) + plusMinus(v.nats),
      v.difference
        ? fixed(v.difference.mean, 3) + plusMinus(v.difference) +
          (v.difference.n === v.nats.n ? "" : ` (${v.difference.n} pairs)`)
        : v.base
        ? "0"
        : "no shared seed",
      ...(dense
        ? [
          v.againstDense === undefined
            ? v.kind === "dense" ? "0" : "no shared seed"
            : fixed(v.againstDense.mean, 3) + plusMinus(v.againstDense),
        ]
        : []),
      v.bitsPerByte === undefined ? "" : fixed(v.bitsPerByte.mean, 3) + plusMinus(v.bitsPerByte),
      counted(v.costs.stored),
      counted(v.costs.active),
      counted(v.costs.flops),
      ...(speed ? [v.speed === undefined ? "" : whole(v.speed.mean)] : []),
      ...(memory ? [v.memoryBytes === undefined ? "" : bytesText(v.memoryBytes)] : []),
    ]),
    numbersFrom: 1,
  };
}

function useRows({ values }: Comparison): string[][] {
  const known = (value: number | undefined, digits: number) =>
    value === undefined ? "not recorded" : fixed(value, digits);
  return values.flatMap(({ label, layers }) =>
    layers.map((use) => [
      label,
      String(use.layer),
      whole(use.experts),
      known(use.experts_per_token, 2),
      fixed(100 * use.expert_usage, 1),
      fixed(use.expert_unevenness, 3),
      fixed(use.expert_gini, 3),
      known(
        use.hottestShare === undefined || use.experts === undefined
          ? undefined
          : use.hottestShare * use.experts,
        1,
      ),
      use.hottest === undefined
        ? "not recorded"
        : use.hottest.slice(0, 3).map(({ expert, share }) =>
          `${expert} (${fixed(100 * share, 1)} %)`
        ).join(", "),
    ])
  );
}

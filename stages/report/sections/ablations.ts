/**
 * "Ablations": one figure and one table a factor.
 *
 * @module
 */

import { ablationFigure } from "../figures/ablation.ts";
import { bytesText } from "../figures/series.ts";
import type { FactorResults } from "../ablation.ts";
import { comparedFactors } from "../architectures.ts";
import { type Block, md, type Section } from "../document.ts";
import { fixed, whole } from "../facts.ts";
import type { SectionContext } from "./context.ts";

/** The section. */
export async function ablationSection(context: SectionContext): Promise<Section> {
  const { data, figures } = context;
  const blocks: Block[] = [];
  const { others: factors, comparisons } = comparedFactors(data);
  // Every cell of a grid stands for a value of each factor; one that a single factor made does so by chance.
  const made = data.ablation?.result.cells.filter(({ base }) => !base) ?? [];
  const grid = made.length > 0 && made.every(({ factors }) => Object.keys(factors).length > 1);
  if (factors.length === 0) {
    blocks.push(
      comparisons.length === 0
        ? md`This run has no ablation.`
        : md`This run compares architectures, which is the next section, and has no other ablation.`,
    );
  } else {
    blocks.push(
      md`${
        grid ? "Every combination of the factors" : "One factor at a time around the base"
      }. Left: held-out loss, mean and 95 % t-interval over seeds. Right: the difference to the base *paired by seed*, which removes what a seed changes in both, and is what a conclusion has to rest on. With two or three seeds such an interval is wide, as it should be. Many intervals at 95 % also mean that about one in twenty excludes zero by chance; no correction is made.`,
    );
    for (const factor of factors) {
      const seeds = [...new Set(factor.values.flatMap((v) => v.seeds))].sort((a, b) => a - b);
      blocks.push(
        await figures.add(ablationFigure(factor), {
          // The comparison ran on no adapter; the models that it compares did.
          from: [
            data.ablation,
            ...data.models.filter((m) => m.base || m.factor === factor.name),
          ],
          caption: md`${conclusion(factor)} Seeds: ${seeds.join(", ")}. Grey: the base.`,
        }),
        table(factor),
      );
    }
    blocks.push(
      md`**A difference is falsified by:** a fresh set of seeds whose interval lies on the other side of zero (add seeds with \`--set seeds=…\`). A difference at this size and length of training is no evidence for the paper's size.`,
    );
  }
  return { id: "ablations", title: "Ablations", blocks };
}

/** The conclusion that the paired intervals allow, and no more. */
export function conclusion(factor: FactorResults): string {
  const compared = factor.values.filter((v) => v.difference !== undefined);
  if (compared.length === 0) return "Nothing to compare the base with.";
  const clear = compared.filter(({ difference: d }) =>
    d!.low !== null && d!.high !== null && (d!.low > 0 || d!.high < 0)
  );
  const single = compared.every(({ difference: d }) => d!.low === null);
  if (single) return "A single seed: differences without an interval, so nothing can be concluded.";
  if (clear.length === 0) return "No paired interval excludes zero: no difference was shown.";
  const parts = clear.map(({ label, difference: d }) =>
    `${label} is ${d!.mean < 0 ? "better" : "worse"} by ${fixed(Math.abs(d!.mean), 3)} nats`
  );
  return `Paired intervals that exclude zero: ${parts.join("; ")}.`;
}

/** Half of an interval after its mean; nothing for a single run. */
export function plusMinus({ low, high }: { low: number | null; high: number | null }): string {
  return low === null || high === null ? "" : ` ± ${fixed((high - low) / 2, 3)}`;
}

function table(factor: FactorResults): Block {
  const speed = factor.values.some((v) => v.tokensPerSecond !== undefined);
  const memory = factor.values.some((v) => v.memoryBytes !== undefined);
  return {
    kind: "table",
    title: factor.title,
    header: [
      "value",
      "n",
      "nats a token",
      "difference, paired",
      ...(speed ? ["tokens/s"] : []),
      ...(memory ? ["memory"] : []),
    ],
    rows: factor.values.map((v) => [
      v.base ? `${v.label} (base)` : v.label,
      String(v.nats.n),
      fixed(v.nats.mean, 3) + plusMinus(v.nats),
      v.difference
        ? fixed(v.difference.mean, 3) + plusMinus(v.difference) +
          (v.difference.n === v.nats.n ? "" : ` (${v.difference.n} pairs)`)
        : v.base
        ? "0"
        : "no shared seed",
      ...(speed ? [v.tokensPerSecond === undefined ? "" : whole(v.tokensPerSecond)] : []),
      ...(memory ? [v.memoryBytes === undefined ? "" : bytesText(v.memoryBytes)] : []),
    ]),
    numbersFrom: 1,
  };
}

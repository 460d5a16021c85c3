/**
 * "Neurons" and "Sizes of clusters": the inside of an expanded model.
 *
 * @module
 */

import {
  type Block,
  md,
  type Prose,
  type Section,
  type TableBlock,
} from "../../report/document.ts";
import { fixed, whole } from "../../report/facts.ts";
import { cellTitle, signed, unbroken } from "../cells.ts";
import type { ExpandedCell } from "../data.ts";
import { histogramsFigure } from "../figures/histograms.ts";
import { blocksFigure, distancesFigure } from "../figures/neurons.ts";
import { SITES, sizesFigure } from "../figures/sizes.ts";
import { MEASURE_NAMES, MEASURES, type Neuron, neuronsOf, quantile } from "../neurons.ts";
import { type ExpansionContext, shownCell } from "./context.ts";

/** The section on neurons; none where none was measured. */
export async function neuronsSection(context: ExpansionContext): Promise<Section[]> {
  const shown = shownCell(context);
  const neurons = shown ? neuronsOf(shown.neurons) : [];
  if (shown === undefined || neurons.length === 0) return [];
  const { figures, data } = context;
  const blocks: Block[] = [
    md`The paper calls a neuron *entangled* whose outputs are far from a Gaussian, by the Wasserstein-1 distance of its standardised outputs, which no activation has changed. A small group of rows is farther from a Gaussian by chance alone, so distances within clusters compare with those within random parts of the same sizes, and not with the distance over all rows. Neurons are spaced evenly over each layer, and rows are those of the calibration. Figures show *${
      nameOf(context, shown)
    }*.`,
  ];
  for (const figure of [distancesFigure(neurons), blocksFigure(neurons)]) {
    if (!figure) continue;
    const caption = figure.name === "neuron_distances"
      ? md`Boxes: the middle half of the neurons, with their median; lines: 5 % to 95 %. ${
        verdict(neurons)
      }`
      : md`Dashed: parts drawn at random.`;
    blocks.push(await figures.add(figure, { from: [shown], caption }));
  }
  const outputs = histogramsFigure(shown.neurons);
  if (outputs) {
    blocks.push(
      await figures.add(outputs, {
        from: [shown],
        caption:
          md`The measured neurons with the largest distances of the dense model. In the titles: the distance of the dense layer over all rows, and that of the experts within their clusters.`,
      }),
    );
  }
  blocks.push(distanceTable(context, data.expanded));
  return [{ id: "neurons", title: "Neurons", blocks }];
}

/** How distances within clusters compare with those of random parts, as counted. */
function verdict(neurons: readonly Neuron[]): string {
  const share = (measure: "clustered" | "expert") =>
    neurons.filter((neuron) => neuron[measure] < neuron.split).length / neurons.length;
  const median = (of: (neuron: Neuron) => number) => quantile(neurons.map(of), 0.5);
  const change = median(({ expert, split }) => expert - split);
  const far = neurons.toSorted((a, b) => b.dense - a.dense)
    .slice(0, Math.max(1, Math.floor(neurons.length / 10)));
  const farChange = quantile(far.map(({ expert, split }) => expert - split), 0.5);
  return `Of ${whole(neurons.length)} neurons ${
    fixed(100 * share("expert"), 0)
  } % are closer to a Gaussian within the clusters, behind their experts, than dense within random parts (dense within the clusters: ${
    fixed(100 * share("clustered"), 0)
  } %); the median change is ${signed(change)}, so clusters ${
    change < 0 ? "bring" : "do not bring"
  } the median neuron closer to a Gaussian here. Of the ${
    whole(far.length)
  } that were farthest from a Gaussian when dense, ${
    fixed(100 * far.filter(({ expert, split }) => expert < split).length / far.length, 0)
  } % are closer; their median change is ${signed(farChange)}.`;
}

function nameOf({ comparison }: ExpansionContext, { cell }: ExpandedCell): string {
  const found = comparison.cells.find(({ name }) => name === cell);
  return found ? cellTitle(found) : cell;
}

/** Medians of every expanded model. */
function distanceTable(context: ExpansionContext, expanded: readonly ExpandedCell[]): TableBlock {
  return {
    kind: "table",
    title: "Median Wasserstein distance of the neurons from a Gaussian",
    header: [
      "model",
      "neurons",
      ...MEASURES.map((measure) => MEASURE_NAMES[measure]),
      "closer than random, %",
    ],
    rows: expanded.flatMap((cell) => {
      const neurons = neuronsOf(cell.neurons);
      if (neurons.length === 0) return [];
      const closer = neurons.filter(({ expert, split }) => expert < split).length / neurons.length;
      return [[
        unbroken(nameOf(context, cell)),
        whole(neurons.length),
        ...MEASURES.map((measure) =>
          fixed(quantile(neurons.map((neuron) => neuron[measure]), 0.5), 3)
        ),
        fixed(100 * closer, 0),
      ]];
    }),
    numbersFrom: 1,
  };
}

/** The section on clusters; none where no site has several. */
export async function sizesSection(context: ExpansionContext): Promise<Section[]> {
  const shown = shownCell(context);
  const figure = shown && sizesFigure(shown.result);
  if (!figure || !shown) return [];
  return [{
    id: "sizes",
    title: "Sizes of the clusters",
    blocks: [
      md`An expert is pruned for its cluster's rows, and a cluster with few of them says little about its inputs. The effective number of clusters is the exponential of the entropy of their shares: with even clusters it is their number. A Hessian that is not positive definite is damped again. The figure shows *${
        nameOf(context, shown)
      }*.`,
      await context.figures.add(figure, { from: [shown], caption: sizesCaption(shown) }),
      sizesTable(context),
    ],
  }];
}

function sizesCaption({ result }: ExpandedCell): Prose {
  const all = result.blocks.flatMap((sites) => SITES.flatMap((site) => sites[site].sizes));
  const most = result.blocks.flatMap((sites, block) =>
    SITES.map((site) => {
      const { sizes } = sites[site];
      return {
        block,
        site,
        share: Math.max(...sizes) / sizes.reduce((sum, size) => sum + size, 0),
      };
    })
  ).toSorted((a, b) => b.share - a.share)[0]!;
  return md`A point is a cluster. The smallest has ${
    whole(Math.min(...all))
  } rows; the largest share is ${fixed(100 * most.share, 1)} %, ${
    most.site === "in" ? "before" : "behind"
  } the activation of block ${most.block}.`;
}

/** exp of the entropy of shares. */
export function effectiveClusters(sizes: readonly number[]): number {
  const all = sizes.reduce((sum, size) => sum + size, 0);
  return Math.exp(
    -sizes.reduce((sum, size) => sum + (size > 0 ? size / all * Math.log(size / all) : 0), 0),
  );
}

function sizesTable(context: ExpansionContext): TableBlock {
  const rows = context.data.expanded.flatMap((cell) => {
    const { blocks } = cell.result;
    if (blocks.every((sites) => SITES.every((site) => sites[site].sizes.length < 2))) return [];
    const mean = (site: typeof SITES[number]) =>
      blocks.reduce((sum, sites) => sum + effectiveClusters(sites[site].sizes), 0) / blocks.length;
    const all = blocks.flatMap((sites) => SITES.flatMap((site) => sites[site].sizes));
    const raised = blocks.flatMap((sites) => SITES.flatMap((site) => sites[site].dampings))
      .filter((times) => times > 1).length;
    return [[
      unbroken(nameOf(context, cell)),
      fixed(mean("in"), 1),
      fixed(mean("mid"), 1),
      whole(Math.min(...all)),
      whole(Math.max(...all)),
      whole(raised),
    ]];
  });
  return {
    kind: "table",
    title:
      "Balance of the clusters, over all blocks: effective number before and behind the activation",
    header: [
      "model",
      "effective, before",
      "behind",
      "fewest rows",
      "most rows",
      "damped again",
    ],
    rows,
    numbersFrom: 1,
  };
}

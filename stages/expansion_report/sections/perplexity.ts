/**
 * "Perplexity": against sparsity, clusters and costs, and every cell in a table.
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
import { bytesText, compact } from "../../report/figures/series.ts";
import {
  type CellKind,
  cellTitle,
  type ComparedCell,
  comparedText,
  type Comparison,
  decimalsOf,
  isClear,
  largestCells,
  type Measurement,
  perplexityText,
  seriesName,
  signed,
  timesText,
  unbroken,
} from "../cells.ts";
import { clustersFigure } from "../figures/clusters.ts";
import { costFigure } from "../figures/cost.ts";
import { differencesFigure } from "../figures/differences.ts";
import { perplexityFigure } from "../figures/perplexity.ts";
import { fixed, whole } from "../../report/facts.ts";
import type { ExpansionContext } from "./context.ts";

/** The sections. */
export async function perplexitySections(context: ExpansionContext): Promise<Section[]> {
  const { comparison, figures } = context;
  const { cells, dense } = comparison;
  if (cells.length === 0) {
    const blocks = [md`This run expands no model.`];
    return [{ id: "perplexity", title: "Perplexity and sparsity", blocks }];
  }
  const from = [...dense ? [dense.node] : [], ...cells.map(({ node }) => node)];
  const sections: Section[] = [];
  const first: Block[] = [
    md`All linear layers of the MLPs are pruned, and nothing else. *SparseGPT* is the method with one cluster. *Magnitude* prunes the smallest weights of each block of columns, as many as SparseGPT does there, and changes no other. Intervals are 95 % t-intervals over the windows of the evaluation, and differences are paired by window. Windows follow each other in one text, so they are not independent, and an interval may be too narrow.`,
  ];
  const sparsity = perplexityFigure(comparison);
  if (sparsity) {
    first.push(await figures.add(sparsity, { from, caption: sparsityCaption(comparison) }));
  }
  const differences = differencesFigure(comparison);
  if (differences) {
    first.push(
      await figures.add(differences, {
        from,
        caption:
          md`Mean difference of the windows' cross-entropies and its 95 % interval; a panel has a scale of its own. Magnitude is in the table alone. ${
            controlled(cells)
              ? "Hollow: controls, each at the sparsity of the model that it controls."
              : ""
          }`,
      }),
    );
  }
  first.push(cellTable(comparison), ...speedTable(comparison));
  sections.push({ id: "perplexity", title: "Perplexity and sparsity", blocks: first });
  const clusters = clustersFigure(comparison);
  if (clusters) {
    sections.push({
      id: "clusters",
      title: "Clusters and controls",
      blocks: [
        md`More clusters store more weights, and any partition of the inputs lets an expert be pruned for fewer rows. The controls take these apart. *Rows* are centroids that are inputs, drawn at random, and stay where they are. *Random* directions know how wide the inputs spread and nothing about where they lie; they are linear in the input, as every router is, so they are not without any meaning. *One expert* keeps as many weights as all experts together.`,
        await figures.add(clusters, { from, caption: controlsCaption(comparison) }),
        ...controlTable(comparison),
        ...denseControls(comparison),
        md`Many intervals at 95 % mean that about one in twenty excludes zero by chance; no correction is made.`,
      ],
    });
  }
  const cost = costFigure(comparison);
  if (cost) {
    sections.push({
      id: "cost",
      title: "Storage and work",
      blocks: [
        md`A token uses one expert, while all of them are stored. Bits count kept values (16 bits unless quantised), masks or positions, grids and routers, over all MLPs; embeddings, attention and norms are the same in all models and are left out. Multiply-adds count the kept weights of one expert and the router.`,
        await figures.add(cost, { from, caption: costCaption(comparison) }),
      ],
    });
  }
  return sections;
}

/** Whether a control was measured. */
function controlled(cells: readonly ComparedCell[]): boolean {
  return cells.some(({ node }) => node.labels.control !== null);
}

function sparsityCaption(comparison: Comparison): Prose {
  const sentences = largestCells(comparison).flatMap((cell) =>
    cell.difference ? [`${cellTitle(cell)}: ${comparedText(cell.difference, "SparseGPT")}.`] : []
  );
  const infinite = comparison.cells.filter(({ perplexity }) => !Number.isFinite(perplexity.mean));
  return md`${
    controlled(comparison.cells)
      ? "Dashed: controls of the most clusters, which the next section explains. "
      : ""
  }${sentences.join(" ")}${
    infinite.length > 0
      ? ` Not drawn, for their perplexity is beyond float64: ${infinite.map(cellTitle).join("; ")}.`
      : ""
  }`;
}

/** How many controls differ from their cells, and in which direction. */
function controlsCaption({ cells }: Comparison): Prose {
  const controls = cells.filter(({ node, toOwn }) => node.labels.control !== null && toOwn);
  if (controls.length === 0) return md`No control was measured.`;
  const parts = Array.from(Map.groupBy(controls, ({ kind }) => kind), ([kind, own]) => {
    const clear = own.map(({ toOwn }) => toOwn!).filter(isClear);
    const worse = clear.filter(({ mean }) => mean > 0).length;
    const better = clear.length - worse;
    return `${
      CONTROL_NAMES[kind]
    } worse than k-means in ${worse} and better in ${better} of ${own.length}`;
  });
  return md`Dashed: controls. By intervals of paired differences that exclude zero, ${
    parts.join("; ")
  }.`;
}

const CONTROL_NAMES: Readonly<Partial<Record<CellKind, string>>> = {
  rows: "rows are",
  random: "random directions are",
  matched: "one expert is",
};

/** Where one expert that keeps as many weights as all experts of a cell is the dense layer. */
function denseControls({ cells }: Comparison): Block[] {
  const whole = cells.filter(({ kind, clusters, level, bits }) =>
    kind === "clusters" && bits === null && clusters * (1 - level.sparsity) > 1 - 1e-9
  );
  if (whole.length === 0) return [];
  const parts = Array.from(
    Map.groupBy(whole, ({ clusters }) => clusters),
    ([clusters, own]) => `${clusters} clusters at ${own.map(({ level }) => level.name).join(", ")}`,
  );
  return [
    md`Experts that together keep as many weights as the dense layer has, or more, leave no smaller layer to compare with: one expert of their storage is the dense layer. That is so for ${
      parts.join("; ")
    }.`,
  ];
}

/** Every control beside its cell. */
function controlTable({ cells }: Comparison): TableBlock[] {
  const rows = cells.flatMap((cell) => {
    const own = cells.find(({ name }) => name === cell.node.labels.of);
    if (own === undefined || cell.toOwn === undefined) return [];
    return [[
      own.level.name,
      unbroken(seriesName(cell)),
      perplexityText(cell.perplexity.mean),
      perplexityText(own.perplexity.mean),
      differenceCell(cell.toOwn),
      timesText(cell.relative?.storedBits),
      timesText(cell.relative?.multiplyAdds),
    ]];
  });
  return rows.length === 0 ? [] : [{
    kind: "table",
    title:
      "Controls beside k-means with as many clusters: paired difference, and costs (dense = 1)",
    header: [
      "pruned",
      "control",
      "perplexity",
      "k-means",
      "nats to k-means",
      "stored",
      "multiply-adds",
    ],
    rows,
    numbersFrom: 2,
  }];
}

function costCaption({ cells, dense }: Comparison): Prose {
  const larger = cells.filter(({ relative }) => relative !== undefined && relative.storedBits > 1);
  const beaten = larger.filter(({ node }) =>
    dense !== undefined && node.result.nats > dense.node.result.nats
  );
  return md`Lines join the sparsities of one series; patterns are hollow. Centroids that are rows or random cost what k-means does and are left out. ${
    larger.length === 0
      ? "No model stores more than the dense one."
      : `${larger.length} of ${cells.length} models store more than the dense one, and ${
        beaten.length === larger.length ? "all" : String(beaten.length)
      } of these have a higher perplexity.`
  }`;
}

/** Every model with its perplexity, its difference to SparseGPT, and its costs. */
function cellTable({ cells, dense, levels }: Comparison): TableBlock {
  const order = new Map(levels.map(({ name }, i) => [name, i]));
  const sorted = cells.toSorted((a, b) =>
    order.get(a.level.name)! - order.get(b.level.name)! || a.clusters - b.clusters
  );
  const bits = sorted.some((cell) => cell.bits !== null);
  const costs = ({ storedBits, multiplyAdds, relative }: Measurement) => [
    `${bytesText(storedBits / 8)} (${timesText(relative?.storedBits)})`,
    `${compact(multiplyAdds)} (${timesText(relative?.multiplyAdds)})`,
  ];
  const row = (cell: ComparedCell) => [
    cell.level.name,
    unbroken(seriesName(cell)),
    ...(bits ? [cell.bits === null ? "16" : String(cell.bits)] : []),
    withInterval(cell),
    cell.difference ? differenceCell(cell.difference) : cell.kind === "sparsegpt" ? "0" : "no pair",
    ...costs(cell),
  ];
  return {
    kind: "table",
    title:
      "All models: perplexity with its 95 % interval, paired difference to SparseGPT of the same sparsity, bytes stored by all MLPs, and multiply-adds of a token in them (dense = 1)",
    header: [
      "pruned",
      "model",
      ...(bits ? ["bits"] : []),
      "perplexity",
      "nats to SparseGPT",
      "stored",
      "multiply-adds",
    ],
    rows: [
      ...dense
        ? [["none", "dense", ...(bits ? ["16"] : []), withInterval(dense), "", ...costs(dense)]]
        : [],
      ...sorted.map(row),
    ],
    numbersFrom: 2,
  };
}

/** The speed of each model while it was measured, and the memory that it took. */
function speedTable({ cells, dense }: Comparison): TableBlock[] {
  if (!dense) return [];
  const base = dense.node.timings;
  const row = (
    pruned: string,
    model: string,
    { seconds, tokens_per_second, peak_bytes }: typeof base,
  ) => [
    pruned,
    model,
    whole(tokens_per_second),
    timesText(seconds / base.seconds),
    bytesText(peak_bytes),
  ];
  return [{
    kind: "table",
    title: "Speed and device memory of the measurement itself, weights in f32 where they are dense",
    header: ["pruned", "model", "tokens/s", "time (dense = 1)", "memory"],
    rows: [
      row("none", "dense", base),
      ...cells.map((cell) => row(cell.level.name, unbroken(seriesName(cell)), cell.node.timings)),
    ],
    numbersFrom: 2,
  }];
}

function withInterval({ perplexity: { mean, low, high } }: Measurement): string {
  const range = low === null || high === null
    ? ""
    : ` (${perplexityText(low, 4)}–${perplexityText(high, 4)})`;
  return `${perplexityText(mean)}${range}`;
}

function differenceCell({ mean, low, high }: NonNullable<ComparedCell["difference"]>): string {
  if (low === null || high === null) return signed(mean);
  const half = (high - low) / 2;
  const digits = decimalsOf(half);
  return `${signed(mean, digits)} ± ${fixed(half, digits)}${
    isClear({ low, high }) ? "" : " (none shown)"
  }`;
}

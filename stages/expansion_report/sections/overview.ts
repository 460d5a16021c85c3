/**
 * The beginning of the report: its results in a few sentences, and the model, the texts and the machine behind them.
 *
 * @module
 */

import type { TextsResult } from "../../calibrate/result.ts";
import { bytesText, compact } from "../../report/figures/series.ts";
import { md, type Prose, type Section } from "../../report/document.ts";
import { adapterOf, fixed, provenanceText, whole } from "../../report/facts.ts";
import {
  cellTitle,
  type ComparedCell,
  comparedText,
  largestCells,
  type Measurement,
  perplexityText,
  timesText,
} from "../cells.ts";
import type { ExpansionContext } from "./context.ts";

/** The first paragraphs: the dense model, and at each sparsity the most clusters beside SparseGPT, with their costs. */
export function lead({ comparison }: ExpansionContext): Prose {
  const { dense, cells } = comparison;
  if (cells.length === 0 && dense === undefined) {
    return md`This run has no measured model.`;
  }
  const nodes = dense
    ? [
      ...md`The dense model has a perplexity of ${perplexityText(dense.perplexity.mean)} on ${
        windowsText(dense)
      }. Its MLPs store ${bytesText(dense.storedBits / 8)} in 16 bits a weight, and a token takes ${
        compact(dense.multiplyAdds)
      } multiply-adds in them.`.nodes,
    ]
    : [];
  for (const cell of largestCells(comparison)) {
    const base = sparsegptAt(comparison.cells, cell);
    nodes.push(
      ...md`**${cellTitle(cell)}:** perplexity ${perplexityText(cell.perplexity.mean)}, ${
        costsText(cell)
      }. ${
        base
          ? `SparseGPT with one cluster: ${perplexityText(base.perplexity.mean)}, ${
            costsText(base)
          }. `
          : ""
      }${
        cell.difference
          ? `Paired by window, the clusters are ${comparedText(cell.difference, "SparseGPT")}.`
          : ""
      }`.nodes,
    );
  }
  return { kind: "prose", nodes };
}

/** Storage and work of a model, over the dense one where that was measured. */
function costsText({ relative, storedBits, multiplyAdds }: Measurement): string {
  return relative
    ? `with ${timesText(relative.storedBits)} the dense MLPs' bits and ${
      timesText(relative.multiplyAdds)
    } their multiply-adds a token`
    : `with ${bytesText(storedBits / 8)} in its MLPs and ${
      compact(multiplyAdds)
    } multiply-adds a token in them`;
}

/** SparseGPT with one cluster at a cell's level. */
export function sparsegptAt(
  cells: readonly ComparedCell[],
  { level, bits }: ComparedCell,
): ComparedCell | undefined {
  return cells.find((cell) =>
    cell.kind === "sparsegpt" && cell.level.name === level.name && cell.bits === bits
  );
}

/** `100 windows of the evaluation text`. */
export function windowsText({ nats }: Measurement): string {
  return `${whole(nats.n)} ${nats.n === 1 ? "window" : "windows"} of the evaluation text`;
}

/** The section. */
export function runSection({ data }: ExpansionContext): Section {
  const { model, texts, measured, expanded } = data;
  const rows: string[][] = [];
  if (model) {
    const { result } = model;
    rows.push(
      [
        "model",
        [result.name, ...result.commit ? [`revision ${result.commit.slice(0, 12)}`] : []].join(
          ", ",
        ),
      ],
      [
        "sizes",
        `${result.family}: ${result.blocks} blocks, width ${result.d_model}, MLPs ${result.d_ffn} wide, ${
          whole(result.vocab_size)
        } tokens in the vocabulary`,
      ],
      [
        "parameters",
        `${compact(result.parameters)}, of which ${compact(result.mlp_parameters)} (${
          fixed(100 * result.mlp_parameters / result.parameters, 1)
        } %) are in the matrices of the MLPs`,
      ],
    );
  }
  if (texts) {
    rows.push(
      ["calibration", textText(texts.result.calibration)],
      ["evaluation", textText(texts.result.evaluation)],
    );
  }
  const gpu = [...expanded, ...measured];
  const seconds = expanded.map(({ timings }) => timings.seconds);
  if (seconds.length > 0) {
    const peak = Math.max(...expanded.map(({ timings }) => timings.peak_bytes));
    rows.push([
      "expansion",
      `${whole(seconds.length)} models in ${fixed(seconds.reduce((a, b) => a + b), 0)} s, at most ${
        bytesText(peak)
      } on the device`,
    ]);
  }
  rows.push(["adapter", adapterOf(gpu) ?? "not recorded"]);
  const said = (key: string) => provenanceText(gpu, key);
  for (const key of ["runtime", "commit", "config"]) {
    const value = said(key);
    if (value !== undefined) rows.push([key === "config" ? "configuration" : key, value]);
  }
  return {
    id: "run",
    title: "The model and the texts",
    blocks: [{ kind: "table", title: "Model, texts and machine", header: ["", ""], rows }],
  };
}

function textText(
  { dataset, windows, length, tokens, revision }: TextsResult["evaluation"],
): string {
  return `${dataset}${revision ? `, revision ${revision.slice(0, 12)}` : ""}: ${
    whole(windows)
  } windows of ${whole(length)} tokens, out of ${whole(tokens)}`;
}

/**
 * The context that the sections of the report are written from.
 *
 * @module
 */

import type { Figure } from "../figures/figure.ts";
import { type RenderedFigure, renderFigure } from "../figures/render.ts";
import type { ReportData } from "../data.ts";
import type { FigureBlock, Prose } from "../document.ts";
import type { Paper } from "../theory/arithmetic.ts";
import { type Provenanced, provenanceLine, type RunFacts } from "../facts.ts";

/** Numbers figures in the order in which they appear, draws them and keeps their files. */
export class FigureList {
  readonly #pngScale: number;
  readonly #rendered: RenderedFigure[] = [];

  constructor(options: { pngScale: number }) {
    this.#pngScale = options.pngScale;
  }

  /** Everything drawn so far. */
  get rendered(): readonly RenderedFigure[] {
    return this.#rendered;
  }

  /**
   * Draws a figure and gives it the next number.
   *
   * @param options.from Nodes whose data it shows; none for a figure from formulas.
   * @throws {Error} When two figures share a name.
   */
  async add(
    figure: Figure,
    options: { caption: Prose; from: readonly (Provenanced | undefined)[] },
  ): Promise<FigureBlock> {
    if (this.#rendered.some((f) => f.name === figure.name)) {
      throw new Error(`Two figures are called ${figure.name}`);
    }
    const rendered = await renderFigure(figure, { pngScale: this.#pngScale });
    this.#rendered.push(rendered);
    return {
      kind: "figure",
      figure: rendered,
      number: this.#rendered.length,
      title: figure.title,
      alt: figure.alt,
      caption: options.caption,
      provenance: options.from.length === 0 && figure.kind === "diagram"
        ? "Drawn from a description and a configuration; nothing was measured."
        : provenanceLine(options.from),
    };
  }
}

/** The context of a section. */
export interface SectionContext {
  readonly data: ReportData;
  /** Sizes of the base; absent when nothing was trained. */
  readonly facts: RunFacts | undefined;
  /** The paper's model. */
  readonly paper: Paper;
  readonly figures: FigureList;
  /** Nats above the limit at which a latent width counts as sufficient. */
  readonly latentTolerance: number;
  /** US dollars that an hour of the GPU is assumed to cost. */
  readonly gpuHourPrice?: number | undefined;
}

/**
 * The sections without measurements: diagrams, Table 1 and 2, memory and cache theory.
 *
 * @module
 */

import { architectureDiagram } from "../figures/diagram_architecture.ts";
import { executionDiagram } from "../figures/diagram_execution.ts";
import { routingDiagram } from "../figures/diagram_routing.ts";
import { cacheTheory } from "../figures/cache_theory.ts";
import { memoryFigure } from "../figures/memory.ts";
import { bytesText, compact } from "../figures/series.ts";
import { compareArchitectures } from "../theory/architectures.ts";
import { memoryArithmetic, PAPER_SIZES, type Quantity, tableOne } from "../theory/arithmetic.ts";
import { GH200 } from "../theory/cache.ts";
import { layerParameters } from "../theory/memory.ts";
import { PAPER } from "../theory/paper.ts";
import { type Block, md, type Section } from "../document.ts";
import { ethosSizes, fixed } from "../facts.ts";
import type { SectionContext } from "./context.ts";

/** Figures 1 to 3 of the paper, drawn from descriptions. */
export async function modelSection(context: SectionContext): Promise<Section> {
  const { facts, figures } = context;
  const architecture = facts?.architecture ?? context.paper.architecture;
  const { d_model } = architecture.config;
  const ethos = ethosSizes(architecture.config);
  const sizes = facts ? "the base that ran" : "the paper's configuration";
  const blocks: Block[] = [
    md`The diagrams correspond to the paper's figures 1 to 3 and are drawn by code, with the sizes of ${sizes}. Orange boxes are trained numbers that are looked up or compared with, blue ones computations.`,
  ];
  blocks.push(
    await figures.add(architectureDiagram(architecture), {
      from: [],
      caption: md`Each layer adds to the residual stream; norms are left out.`,
    }),
  );
  if (ethos?.router === "product_key") {
    blocks.push(
      await figures.add(routingDiagram(ethos, d_model), {
        from: [],
        caption:
          md`All heads of a layer share the sub-keys. The choice is not differentiated; the scores are.`,
      }),
    );
  }
  if (ethos !== undefined) {
    blocks.push(
      await figures.add(executionDiagram(ethos, d_model), {
        from: [],
        caption:
          md`*s* is the score of the expert. Both orders give the same numbers up to rounding.`,
      }),
    );
  }
  return { id: "model", title: "The model", blocks };
}

/** Table 1 and the arithmetic of sections 5.3 and 5.4. */
export function parametersSection(context: SectionContext): Section {
  const ran = context.facts?.arithmetic;
  const paper = context.paper.arithmetic;
  return {
    id: "parameters",
    title: "Parameters and operations",
    blocks: [
      md`Computed from the configurations by the same code that allocates the model, so these are facts about the sizes given and not measurements. "Paper, computed" is the paper's published configuration.`,
      quantityTable("Table 1: parameters and operations", tableOne(paper, ran), ran !== undefined),
      quantityTable(
        "Sections 5.3 and 5.4: where the parameters are",
        memoryArithmetic(paper, ran),
        ran !== undefined,
      ),
      md`"Theoretical" parameters are what the generated experts would take if each were stored; generated from ${
        String(PAPER_SIZES.d_latent)
      } numbers through a shared map, they cannot be set independently, so the figure bounds capacity from above and measures none.`,
    ],
  };
}

function quantityTable(title: string, quantities: readonly Quantity[], ran: boolean): Block {
  return {
    kind: "table",
    title,
    header: ["", "paper says", "paper, computed", ...(ran ? ["this run"] : []), "note"],
    rows: quantities.map((q) => [
      q.name,
      amount(q.paper, q.unit),
      amount(q.computed, q.unit),
      ...(ran ? [amount(q.ran, q.unit)] : []),
      q.note,
    ]),
  };
}

function amount(value: number | undefined, unit: Quantity["unit"]): string {
  if (value === undefined) return "–";
  switch (unit) {
    case "ratio":
      return `${Number(value.toPrecision(3))} ×`;
    case "bytes":
      return bytesText(value);
    case "FLOP":
      return `${compact(value).replace(" B", " G")}FLOP`;
    case "parameters":
      return compact(value);
  }
}

/** Section 7.1 and Table 2. */
export async function memorySection(context: SectionContext): Promise<Section> {
  const N = PAPER_SIZES.num_experts;
  const peer = layerParameters("PEER", N, PAPER_SIZES);
  const ethos = layerParameters("ETHOS", N, PAPER_SIZES);
  return {
    id: "memory",
    title: "Memory and other architectures",
    blocks: [
      md`Section 7.1 compares what one layer stores. At the paper's sizes a layer of ${
        N.toLocaleString("en-US")
      } experts takes ${fixed(2 * peer / 1e9, 2)} GB as PEER and ${
        fixed(2 * ethos / 1e9, 3)
      } GB as ETHOS in bf16, ${
        fixed(peer / ethos, 1)
      } times less; the experts alone give the paper's factor of ${PAPER.memoryGain}, router and generator take the rest. Below about a thousand experts ETHOS saves nothing.`,
      await context.figures.add(memoryFigure(PAPER_SIZES, { experts: N }), {
        from: [],
        caption:
          md`Paper's sizes. "Traditional" is a mixture of two-matrix feed-forwards, each of the full width. Dotted: the paper's number of experts. Optimiser state and gradients multiply all three alike.`,
      }),
      {
        kind: "table",
        title: "Table 2: one feed-forward layer at the paper's width, computed",
        header: [
          "architecture",
          "routing",
          "experts",
          "used",
          "stored",
          "active",
          "FLOP a token",
        ],
        rows: compareArchitectures(PAPER_SIZES).map((a) => [
          `${a.name} (${a.source})`,
          a.routing,
          a.experts.toLocaleString("en-US"),
          String(a.kept),
          compact(a.stored),
          compact(a.active),
          compact(a.flops),
        ]),
        numbersFrom: 2,
      },
      md`The paper's Table 2 places ETHOS among related architectures; the entries here are ours, computed for one layer of width ${
        String(PAPER_SIZES.d_model)
      }. Of ETHOS's operations, most generate experts anew for every token; generating all of them once a step removes that above ${
        (N / (PAPER_SIZES.routing_heads * PAPER_SIZES.top_k)).toLocaleString("en-US")
      } tokens a step.`,
    ],
  };
}

/** Section 3. */
export async function cacheSection(context: SectionContext): Promise<Section> {
  const sizes = {
    ...PAPER_SIZES,
    kept: PAPER_SIZES.routing_heads * PAPER_SIZES.top_k,
  };
  return {
    id: "cache",
    title: "Theory of small experts",
    blocks: [
      md`Section 3 of the paper argues that small experts stay in cache. The model here is ours, after the paper's outline: ${N_TEXT} experts of one layer, a ${GH200.name} with ${
        bytesText(GH200.cacheBytes)
      } of L2 at an assumed ${fixed(GH200.cacheBandwidth / 1e12, 1)} TB/s over memory at ${
        fixed(GH200.memoryBandwidth / 1e12, 1)
      } TB/s, experts read whole, the most used ones cached. Formulas stand at the head of \`stages/report/theory/cache.ts\`.`,
      await context.figures.add(cacheTheory(sizes), {
        from: [],
        caption:
          md`"Even" is every expert equally likely, "Zipf" with exponent 1. Bottom right, with Zipf use: *stored* experts read all their bytes for each token that uses them, *generated* ones read a latent code and pay ${
            (2 * PAPER_SIZES.d_latent * PAPER_SIZES.d_hidden).toLocaleString("en-US")
          } operations to expand it at bf16 peak.`,
      }),
      md`In this model a latent code stays in cache and a PEER expert does not, and ETHOS applies several times more experts a second than PEER; but it is then bound by arithmetic, not by the cache. Caching itself is worth less than it looks, since L2 is not much faster than this memory. The grey curve, the chance that *at least one* needed expert is cached, comes from an earlier manuscript by the paper's first author (Medford, "Novel Scaling Laws for MoE Architectures"); a kernel waits for all of them, so it overstates the benefit.`,
      md`**Falsified by:** hardware counters. L2 hit rates of the fused kernel well below the Zipf curve, or a time that does not follow the generated curve when \`d_latent\` changes. Batches that share an expert between tokens also change the picture: the model reads anew for every token.`,
    ],
  };
}

const N_TEXT = PAPER_SIZES.num_experts.toLocaleString("en-US");

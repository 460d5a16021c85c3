/**
 * Table 1 and the arithmetic of sections 5.3 and 5.4, computed from a configuration, beside the paper's figures.
 *
 * @module
 */

import { z } from "zod";
import { productKeyEthosSchema } from "../../../model/ffn/ethos/schema.ts";
import { size } from "../../../model/layer/parameter.ts";
import { kindModules, loadArchitecture, type LoadOptions } from "../../../model/load.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import { countFlops, countParameters } from "../../../model/trunk/counts.ts";
import { trunkFields } from "../../../model/trunk/schema.ts";
import { PAPER } from "./paper.ts";

/** The paper's configuration, with the vocabulary of `cl100k_base`: defaults are the paper's values. */
const PAPER_MODEL = {
  ...z.object(trunkFields).parse({}),
  attention: { kind: "mla" },
  ffn: productKeyEthosSchema.parse({ kind: "ethos" }),
  vocab_size: 100277,
};

/** Sizes of the paper's layers. */
export const PAPER_SIZES = {
  ...PAPER_MODEL.ffn,
  d_model: PAPER_MODEL.d_model,
  d_ffn: PAPER_MODEL.leading_dense.d_ffn,
};

/** Modules that {@linkcode loadPaper} loads. */
export const PAPER_MODULES = kindModules(PAPER_MODEL);

/** The paper's model. */
export interface Paper {
  readonly architecture: Architecture;
  readonly arithmetic: Arithmetic;
}

/** Loads the kinds of the paper's model and counts it. */
export async function loadPaper(options: LoadOptions = {}): Promise<Paper> {
  const architecture = await loadArchitecture(PAPER_MODEL, options);
  const { tokensPerStep } = PAPER;
  return {
    architecture,
    arithmetic: arithmetic(architecture, { sequenceLength: PAPER_SEQUENCE, tokensPerStep }),
  };
}

/** Tokens of the paper's sequences. */
const PAPER_SEQUENCE = 4096;

/** One quantity. */
export interface Quantity {
  readonly name: string;
  readonly unit: "parameters" | "FLOP" | "ratio" | "bytes";
  /** The paper's figure, where it states one. */
  readonly paper: number | undefined;
  /** Computed for the paper's configuration. */
  readonly computed: number;
  /** Computed for the configuration that ran. */
  readonly ran: number | undefined;
  /** Why they differ. */
  readonly note: string;
}

/** Everything that the tables show of one configuration. */
export interface Arithmetic {
  /** Parameters that are stored. */
  readonly stored: number;
  /** Parameters that one token uses. */
  readonly active: number;
  /** Parameters if every expert were stored. */
  readonly theoretical: number;
  /** Parameters of attention in all layers. */
  readonly attention: number;
  /** Experts of one layer if stored as PEER does, parameters. */
  readonly storedExperts: number;
  /** Latent codes of one layer, parameters. */
  readonly latentCodes: number;
  /** Forward operations a token, experts generated for each token. */
  readonly flops: number;
  /** The same with every expert generated once a step. */
  readonly flopsShared: number;
  /** Operations of a dense model of the theoretical size, two a parameter, over {@linkcode flops}. */
  readonly gain: number;
}

/** Computes one configuration's quantities. */
export function arithmetic(
  architecture: Architecture,
  options: { sequenceLength: number; tokensPerStep: number },
): Arithmetic {
  const counts = countParameters(architecture);
  const flops = countFlops(architecture, options).total;
  const layer = architecture.feedForward(architecture.config.num_layers - 1);
  const ofRole = (wanted: string) =>
    layer.parameters("ffn").filter(({ role }) => role === wanted)
      .reduce((sum, spec) => sum + size(spec), 0);
  return {
    stored: counts.stored,
    active: counts.active,
    theoretical: counts.theoretical,
    attention: counts.byRole.attention ?? 0,
    storedExperts: layer.bench === undefined ? 0 : layer.counts.theoretical - ofRole("router"),
    latentCodes: ofRole("latent"),
    flops,
    flopsShared: countFlops(architecture, { ...options, generation: "materialized" }).total,
    gain: 2 * counts.theoretical / flops,
  };
}

/** Table 1: parameters and operations. */
export function tableOne(
  paper: Arithmetic,
  ran: Arithmetic | undefined,
): readonly Quantity[] {
  const all16 = 16 * paper.storedExperts + PAPER_MODEL.vocab_size * PAPER_MODEL.d_model;
  return [
    {
      name: "stored parameters",
      unit: "parameters",
      paper: PAPER.stored,
      computed: paper.stored,
      ran: ran?.stored,
      note: "The sizes given come to 744 M; the paper says 750 M.",
    },
    {
      name: "active parameters a token",
      unit: "parameters",
      paper: PAPER.active,
      computed: paper.active,
      ran: ran?.active,
      note:
        "Everything but latent codes that are not looked up, tied embedding counted once: 274 M, 6 % above the paper's 258 M.",
    },
    {
      name: "theoretical parameters",
      unit: "parameters",
      paper: PAPER.theoretical,
      computed: paper.theoretical,
      ran: ran?.theoretical,
      note:
        `With experts in the 14 sparse layers. The paper's 8.7 B is what 16 layers of experts and the embedding come to (${
          (all16 / 1e9).toFixed(2)
        } B); that reading is ours.`,
    },
    {
      name: "forward FLOP a token",
      unit: "FLOP",
      paper: undefined,
      computed: paper.flops,
      ran: ran?.flops,
      note: "Products only; attention averaged over the positions of a sequence.",
    },
    {
      name: "the same, every expert generated once a step",
      unit: "FLOP",
      paper: undefined,
      computed: paper.flopsShared,
      ran: ran?.flopsShared,
      note: "Worth it from N / (H k) tokens a step.",
    },
    {
      name: "gain over a dense model of the theoretical size",
      unit: "ratio",
      paper: PAPER.flopsGain,
      computed: paper.gain,
      ran: ran?.gain,
      note:
        `Two operations a parameter for the dense model. From 8.7 B and shared generation it is ${
          (2 * PAPER.theoretical / paper.flopsShared).toFixed(0)
        }. A dense model of equal quality is another question.`,
    },
  ];
}

/** Sections 5.3 and 5.4: where the parameters are. */
export function memoryArithmetic(
  paper: Arithmetic,
  ran: Arithmetic | undefined,
): readonly Quantity[] {
  return [
    {
      name: "experts of one layer, stored as u and v",
      unit: "parameters",
      paper: PAPER.peerLayer,
      computed: paper.storedExperts,
      ran: ran?.storedExperts,
      note: `"536 MB" is a count of parameters; in bf16 it is 1,074 MB.`,
    },
    {
      name: "latent codes of one layer",
      unit: "parameters",
      paper: PAPER.latentLayer,
      computed: paper.latentCodes,
      ran: ran?.latentCodes,
      note: `"33 MB" is a count of parameters; in bf16 it is 67 MB.`,
    },
    {
      name: "ratio of the two",
      unit: "ratio",
      paper: PAPER.memoryGain,
      computed: paper.storedExperts / paper.latentCodes,
      ran: ran && ran.latentCodes > 0 ? ran.storedExperts / ran.latentCodes : undefined,
      note: "2 D / d_latent; the ratio holds whatever the unit.",
    },
    {
      name: "attention, all layers",
      unit: "parameters",
      paper: PAPER.attention,
      computed: paper.attention,
      ran: ran?.attention,
      note: "68 M, not 800 M, which alone would be more than the whole model.",
    },
  ];
}

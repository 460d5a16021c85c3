/**
 * A model beside its dense equivalent: counted and measured quantities, kept apart.
 *
 * @module
 */

import canonicalize from "canonicalize";
import type { BenchEntry } from "../../../model/bench/suites/suite.ts";
import { forwardLengths, type Side } from "../../../model/bench/suites/model_suite.ts";
import type { ModelConfig } from "../../../model/section.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import {
  type ActiveCounts,
  countActive,
  countFlops,
  countParameters,
} from "../../../model/trunk/counts.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { showBytes, showCount, showSeconds, threeDigits } from "./quantities.ts";

/** Counts of one model. */
export interface ModelCounts {
  /** Kind of its feed-forward layers. */
  readonly kind: string;
  /** Parameters that a checkpoint holds. */
  readonly stored: number;
  readonly active: ActiveCounts;
  /** Operations of a forward pass over one sequence, by its tokens, as the model's sizes give them. */
  readonly flops: Readonly<Record<number, number>>;
}

/** Held-out loss of a trained model. */
export interface ModelLoss {
  readonly model: Side;
  readonly checkpoint: string;
  /** Predictions scored. */
  readonly tokens: number;
  /** Mean cross-entropy, nats. */
  readonly nats: number;
  /** Null where the tokens spell no text. */
  readonly bits_per_byte: number | null;
}

/** The part of a measurement that needs no clock, and the losses of trained models. */
export interface ModelComparison {
  readonly counts: { readonly base: ModelCounts; readonly dense?: ModelCounts };
  readonly losses: readonly ModelLoss[];
}

/** Counts a model. */
export function modelCounts(architecture: Architecture): ModelCounts {
  const generation = { generation: "as_run" } as const;
  return {
    kind: architecture.config.ffn.kind,
    stored: countParameters(architecture).stored,
    active: countActive(architecture),
    flops: Object.fromEntries(
      forwardLengths(architecture).map((tokens) => {
        const options = { ...generation, sequenceLength: tokens, tokensPerStep: tokens };
        return [tokens, tokens * countFlops(architecture, options).total];
      }),
    ),
  };
}

/**
 * The side that a checkpoint's model is on.
 *
 * @throws {UserError} If it is neither the model nor its dense equivalent.
 */
export function sideOf(
  checkpoint: string,
  found: ModelConfig,
  sides: { readonly base: ModelConfig; readonly dense?: ModelConfig | undefined },
): Side {
  // Optional keys that are undefined are as if they were not there, and a width of no layers says nothing.
  const essence = ({ leading_dense, ...config }: ModelConfig) =>
    canonicalize(
      JSON.parse(JSON.stringify({ ...config, ...leading_dense.num_layers > 0 && leading_dense })),
    );
  const same = (a: ModelConfig, b: ModelConfig) => essence(a) === essence(b);
  for (const side of ["base", "dense"] as const) {
    const config = sides[side];
    if (config && same(config, found)) return side;
  }
  throw new UserError(
    `--checkpoint is ${checkpoint}, a model with ${found.ffn.kind} layers of width ${found.d_model} and ${found.vocab_size} tokens; ` +
      "expected the model of the configuration or its dense equivalent.",
  );
}

/** A quantity of both sides. */
interface Line {
  readonly name: string;
  readonly of: (side: Side) => number | undefined;
  readonly show: (value: number) => string;
}

/** The table as text, from the entries of the suite `model`. */
export function renderComparison(
  { counts, losses }: ModelComparison,
  entries: readonly BenchEntry[],
): string {
  const sides: Side[] = counts.dense ? ["base", "dense"] : ["base"];
  const counted = (name: string, of: (counts: ModelCounts) => number | undefined): Line => ({
    name,
    of: (side) => counts[side] && of(counts[side]),
    show: showCount,
  });
  const flops = (name: string, of: Line["of"]): Line => ({
    name,
    of,
    show: (value) =>
      value >= 1e8 ? `${threeDigits(value / 1e9)} GFLOP` : `${threeDigits(value / 1e6)} MFLOP`,
  });
  const entry = (side: Side, pass: string, tokens?: number) =>
    entries.find(({ suite, params }) =>
      suite === "model" && params["model"] === side && params["pass"] === pass &&
      (tokens === undefined || params["tokens"] === tokens)
    );
  const measured = (
    name: string,
    quantity: "median" | "peak_bytes" | "tokens_per_second",
    at: { readonly pass: string; readonly tokens?: number | undefined },
  ): Line => ({
    name,
    of: (side) => entry(side, at.pass, at.tokens)?.[quantity],
    show: quantity === "median"
      ? showSeconds
      : quantity === "peak_bytes"
      ? showBytes
      : (value) => `${showCount(value)} tokens/s`,
  });
  const mean = (side: Side, of: (loss: ModelLoss) => number | null) => {
    const values = losses.filter(({ model }) => model === side).map(of)
      .filter((value) => value !== null);
    return values.length === 0 ? undefined : values.reduce((a, b) => a + b) / values.length;
  };
  const lengths = Object.keys(counts.base.flops).map(Number);
  const longer = lengths[1] ?? lengths[0];
  const models = new Set(losses.map(({ checkpoint }) => checkpoint)).size;
  const four = (value: number) => value.toFixed(4);
  const parts: [string, Line[]][] = [
    ["counted", [
      counted("stored parameters", ({ stored }) => stored),
      counted("active: layers alone", ({ active }) => active.layers),
      counted("active: with the head", ({ active }) => active.with_head),
      counted("active: with whole tables", ({ active }) => active.with_tables),
      ...lengths.flatMap((tokens) => [
        flops(`forward ${tokens}×1, by sizes`, (side) => counts[side]?.flops[tokens]),
        flops(`forward ${tokens}×1, dispatched`, (side) => entry(side, "forward", tokens)?.flops),
      ]),
    ]],
    ["measured", [
      ...lengths.map((tokens) =>
        measured(`forward ${tokens}×1`, "median", { pass: "forward", tokens })
      ),
      measured("decoded token", "median", { pass: "decode" }),
      measured(`memory, forward ${longer}×1`, "peak_bytes", { pass: "forward", tokens: longer }),
      measured("memory, training step", "peak_bytes", { pass: "training" }),
      measured("prefill", "tokens_per_second", { pass: "prefill" }),
      measured("decoding", "tokens_per_second", { pass: "decode" }),
      measured("training", "tokens_per_second", { pass: "training" }),
      {
        name: `held-out loss, nats (${models} models)`,
        of: (s) => mean(s, (l) => l.nats),
        show: four,
      },
      { name: "bits a byte", of: (s) => mean(s, (l) => l.bits_per_byte), show: four },
    ]],
  ];
  return parts.flatMap(([title, lines]) => {
    const rows = lines.map(({ name, of, show }) => {
      const values = sides.map(of);
      const [base, dense] = values;
      return {
        present: values.some((value) => value !== undefined),
        cells: [
          name,
          ...values.map((value) => value === undefined ? "–" : show(value)),
          ...sides.length < 2
            ? []
            : [base === undefined || dense === undefined ? "–" : `× ${(base / dense).toFixed(3)}`],
        ],
      };
    }).filter(({ present }) => present).map(({ cells }) => cells);
    if (rows.length === 0) return [];
    const head = sides.map((side) => `${counts[side]!.kind}`);
    return [formatTable([title, ...head, ...sides.length < 2 ? [] : ["ratio"]], rows)];
  }).join("\n\n");
}

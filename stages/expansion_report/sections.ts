/**
 * Sections of the report of Sparse Expansion.
 *
 * @module
 */

import { md, type Section } from "../report/document.ts";
import type { ExpansionData } from "./data.ts";

/** Perplexity of each cell, beside the bits that it stores and its multiply-adds. */
export function perplexitySection({ cells }: ExpansionData): Section {
  const [dense] = cells;
  return {
    id: "perplexity",
    title: "Perplexity, storage and work",
    blocks: [
      md`Storage and multiply-adds are those of the MLPs, routers among them, divided by the dense model's with 16 bits a weight. A token uses one expert of each layer; all of them are stored.`,
      {
        kind: "table",
        title: "Every cell",
        header: [
          "cell",
          "perplexity",
          "nats above dense",
          "stored bits",
          "multiply-adds a token",
          "tokens/s",
        ],
        numbersFrom: 1,
        rows: cells.map(({ labels, result, timings }) => [
          labels.cell,
          perplexityText(result.perplexity),
          (result.nats - dense!.result.nats).toFixed(4),
          `${(result.mlp.stored_bits / dense!.result.mlp.stored_bits).toFixed(3)} ×`,
          `${(result.mlp.multiply_adds / dense!.result.mlp.multiply_adds).toFixed(3)} ×`,
          Math.round(timings.tokens_per_second).toLocaleString("en"),
        ]),
      },
    ],
  };
}

/** A perplexity in five digits. */
export function perplexityText(perplexity: number | null): string {
  return perplexity === null ? "beyond float64" : Number(perplexity.toPrecision(5)).toString();
}

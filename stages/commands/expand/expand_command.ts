/**
 * `expand` as a command of the command line.
 *
 * @module
 */

import { type Arguments, type Command, stringArgument } from "../../../pipeline/command.ts";
import type { ExpandOptions, NumberOption } from "./expand.ts";

/** Numbers that go into the configuration as they are; its schema checks them. */
const NUMBERS: Readonly<Record<NumberOption, string>> = {
  clusters: "Experts of each site (default: 16); 1 is plain SparseGPT",
  bits: "Bits of a quantised weight, 2 to 8 (default: not quantised)",
  samples: "Calibration windows (default: 128)",
  seqlen: "Tokens of a window (default: the model's longest, at most 4096)",
  windows: "Windows to measure on, at most (default: all; c4: 256)",
  "pca-factor": "Inputs for each principal component (default: 32)",
  restarts: "Starts of k-means (default: 10)",
  "block-size": "Columns that are pruned together (default: 128)",
  percdamp: "Addend of the Hessian's diagonal, over its mean (default: 0.01)",
};

/** Expands a published model, and measures it before and after. */
export const expandCommand: Command = {
  name: "expand",
  summary: "Give a published model sparse experts, and measure it before and after",
  examples: [
    [
      "expand --model EleutherAI/pythia-1.4b-deduped --revision step143000 --sparsity 0.5 --clusters 16",
      "as published, on wikitext2",
    ],
    ["expand --model models/llama --sparsity 2:4 --clusters 16 --bits 4", "2:4, in four bits"],
    [
      "expand --model models/llama --sparsity 0.5 --dataset 'books/*.txt' --evaluate held_out.txt --out expanded",
      "on files of your own; evaluate and generate --model expanded read the result",
    ],
  ],
  options: {
    model: {
      type: "string",
      requiresArg: true,
      demandOption: true,
      describe: "Published GPT-NeoX or Llama: a folder of its files, or ORG/NAME on the hub",
    },
    revision: {
      type: "string",
      requiresArg: true,
      describe: "Branch, tag or commit on the hub (default: main)",
    },
    sparsity: {
      type: "string",
      requiresArg: true,
      default: "0.5",
      describe: "Part of the weights that is pruned, or N:M for N zeros among M neighbours",
    },
    ...Object.fromEntries(
      Object.entries(NUMBERS).map(([name, describe]) => [
        name,
        { type: "number" as const, requiresArg: true, describe },
      ]),
    ),
    symmetric: { type: "boolean", describe: "Quantise on a grid that is symmetric around zero" },
    method: {
      choices: ["sparsegpt", "magnitude"],
      requiresArg: true,
      describe: "How weights are chosen (default: sparsegpt)",
    },
    "no-pca": { type: "boolean", describe: "Cluster rows as they are" },
    dataset: {
      type: "string",
      requiresArg: true,
      default: "wikitext2",
      describe: "Calibration text: wikitext2, c4, embedded, or a path or glob of files",
    },
    evaluate: {
      type: "string",
      requiresArg: true,
      describe: "Text to measure on, as --dataset (default: the held-out part of that)",
    },
    seed: { type: "number", requiresArg: true, default: 0, describe: "Of windows and k-means" },
    verbose: { type: "boolean", describe: "Show clusters and losses of every layer" },
    out: {
      type: "string",
      requiresArg: true,
      describe: "Folder for the expanded model, which evaluate and generate --model read",
    },
  },
  runsStages: true,
  async run(args, context) {
    const { expandModel } = await import("./expand.ts");
    return await expandModel(optionsOf(args), context);
  },
};

function optionsOf(args: Arguments): ExpandOptions {
  const numbers = Object.fromEntries(Object.keys(NUMBERS).map((name) => [name, args[name]]));
  return {
    numbers: numbers as ExpandOptions["numbers"],
    model: stringArgument(args, "model") ?? "",
    revision: stringArgument(args, "revision"),
    sparsity: stringArgument(args, "sparsity") ?? "",
    symmetric: args["symmetric"] === true,
    method: stringArgument(args, "method") as ExpandOptions["method"],
    pca: args["no-pca"] !== true,
    dataset: stringArgument(args, "dataset") ?? "",
    evaluate: stringArgument(args, "evaluate"),
    seed: args["seed"],
    verbose: args["verbose"] === true,
    out: stringArgument(args, "out"),
  };
}

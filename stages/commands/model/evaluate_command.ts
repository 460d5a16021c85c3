/**
 * `evaluate` as a command of the command line.
 *
 * @module
 */

import type { MlpStorage } from "../../../model/sparse/storage.ts";
import { type Command, listArgument, stringArgument } from "../../../pipeline/command.ts";
import {
  LARGEST_SEED,
  MODEL_OPTIONS,
  modelArguments,
  PRECISION_OPTION,
  wholeArgument,
} from "./checkpoint_options.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import type { CheckpointEvaluation, DocumentMode, EvaluatedEdit } from "./evaluate.ts";

/** Measures a trained checkpoint on any text. */
export const evaluateCommand: Command = {
  name: "evaluate",
  summary: "Measure a trained model on text: nats, bits per byte, use of its experts",
  examples: [
    ["evaluate --checkpoint 'train[base,seed=1]' --files 'books/*.txt'", "on files of your own"],
    [
      "evaluate --checkpoint 'train[base,seed=1]' --split validation",
      "on the text it was held from",
    ],
    [
      "evaluate --checkpoint 'train[base,seed=1]' --split validation --without-experts 1:17,2:c3",
      "without an expert and a cluster, beside random ones",
    ],
    [
      "evaluate --model EleutherAI/pythia-70m-deduped --files wikitext2/test.txt",
      "a published one of the Hugging Face hub",
    ],
  ],
  options: {
    ...MODEL_OPTIONS,
    files: {
      type: "string",
      requiresArg: true,
      describe:
        "Path or glob of .txt, .jsonl or .json files, each with or without .gz, or .parquet",
    },
    "text-field": {
      type: "string",
      requiresArg: true,
      describe: "Key of the text in JSON, column in Parquet (default: text)",
    },
    separator: {
      type: "string",
      requiresArg: true,
      describe: "Text between the documents of .txt, such as <|endoftext|> (default: none)",
    },
    encoding: {
      type: "string",
      requiresArg: true,
      describe: "Encoding of files without a byte-order mark (default: utf-8)",
    },
    split: {
      choices: ["validation", "train"],
      requiresArg: true,
      describe: "Split of the node's own dataset, instead of --files",
    },
    documents: {
      choices: ["packed", "single", "padded"],
      requiresArg: true,
      describe:
        "Whether each document is a sequence of its own, and its padding scored (default: as in the training)",
    },
    tokens: { type: "number", requiresArg: true, describe: "Predictions at most (default: all)" },
    "micro-batch": {
      type: "number",
      default: 8,
      requiresArg: true,
      describe: "Sequences scored at once",
    },
    "sequence-length": {
      type: "number",
      requiresArg: true,
      describe:
        "Tokens that a prediction can see (default: the training's, 512 if unknown; --model: its longest, at most 4096)",
    },
    "without-experts": {
      type: "string",
      requiresArg: true,
      describe: "Experts to leave out: LAYER:ID,…, or of a cluster LAYER:cCLUSTER",
    },
    "replace-code": {
      type: "string",
      array: true,
      requiresArg: true,
      describe:
        "Code for an expert: LAYER:ID=LAYER:ID, or =FILE with a JSON array; may be repeated",
    },
    clusters: {
      type: "number",
      default: 6,
      requiresArg: true,
      describe: "Clusters of a layer, as experts makes them",
    },
    controls: {
      type: "number",
      default: 3,
      requiresArg: true,
      describe: "Random experts of equal use that are edited beside",
    },
    seed: {
      type: "number",
      default: 1,
      requiresArg: true,
      describe: "Chooses clusters and random experts",
    },
    ...PRECISION_OPTION,
    ...GPU_OPTION,
  },
  async run(args, { storeDir, json, print, warn }) {
    const { evaluateCheckpoint } = await import("./evaluate.ts");
    const optional = <Key extends string, Value>(key: Key, value: Value | undefined) =>
      (value === undefined ? {} : { [key]: value }) as { [K in Key]?: Value };
    const terminal = !json && Deno.stderr.isTerminal();
    let said = performance.now();
    const without_experts = stringArgument(args, "without-experts");
    const replace_code = listArgument(args, "replace-code");
    const edits = {
      ...optional("without_experts", without_experts),
      replace_code,
      clusters: wholeArgument(args, "clusters", 2, 256)!,
      controls: wholeArgument(args, "controls", 1, 100)!,
      seed: wholeArgument(args, "seed", 0, LARGEST_SEED)!,
    };
    const result = await evaluateCheckpoint({
      ...(without_experts === undefined && replace_code.length === 0 ? {} : { edits }),
      ...modelArguments(args),
      storeDir,
      ...optional("files", stringArgument(args, "files")),
      ...optional("text_field", stringArgument(args, "text-field")),
      ...optional("separator", stringArgument(args, "separator")),
      ...optional("encoding", stringArgument(args, "encoding")),
      ...optional("split", stringArgument(args, "split") as "train" | "validation" | undefined),
      ...optional(
        "documents",
        stringArgument(args, "documents") as DocumentMode | undefined,
      ),
      ...optional("tokens", wholeArgument(args, "tokens", 1)),
      ...optional("sequence_length", wholeArgument(args, "sequence-length", 1, 131072)),
      micro_batch: wholeArgument(args, "micro-batch", 1, 65536)!,
      precision: stringArgument(args, "precision") as "f32" | "mixed",
      gpu: () => commandGpu(args),
      warn,
      onProgress(tokens) {
        if (!terminal || performance.now() - said < 5000) return;
        said = performance.now();
        warn(`${tokens.toLocaleString("en")} tokens …`);
      },
    });
    for (const line of json ? [JSON.stringify(result)] : describe(result)) print(line);
  },
};

function describe(result: CheckpointEvaluation): string[] {
  const { files, split, bits_per_byte, expert_usage, expert_unevenness, layers } = result;
  const count = (n: number) => Math.round(n).toLocaleString("en");
  const share = (n: number) => `${(100 * n).toFixed(1)} %`;
  const rows = [
    ["checkpoint", result.checkpoint],
    ...(result.revision === undefined ? [] : [["revision", result.revision]]),
    ["text", files ? `${files.length} file${files.length === 1 ? "" : "s"}` : `${split} split`],
    ["tokens", `${count(result.tokens)}, ${count(result.bytes)} bytes`],
    ["nats", result.nats.toFixed(4)],
    ["perplexity", result.perplexity?.toFixed(3) ?? "–"],
    ["bits/byte", bits_per_byte?.toFixed(4) ?? "–"],
    ...(expert_usage === undefined ? [] : [["experts used", share(expert_usage)]]),
    ...(expert_unevenness === undefined
      ? []
      : [["unevenness", `${expert_unevenness.toFixed(3)} nats`]]),
    ...layers.map((layer) => [
      `  layer ${layer.layer}`,
      `${share(layer.expert_usage)} used, ${layer.expert_unevenness.toFixed(3)} nats`,
    ]),
    ...(result.expansion ? describeExpansion(result.expansion) : []),
    ...(result.edit ? describeEdit(result.edit) : []),
    ["speed", `${count(result.tokens_per_second)} tokens/s`],
  ];
  const width = Math.max(...rows.map(([name]) => name!.length));
  return rows.map(([name, value]) => `${name!.padEnd(width)}  ${value}`);
}

/** The edited model beside itself. */
function describeEdit(edit: EvaluatedEdit): [string, string][] {
  const { summary } = edit.controls;
  const signed = (change: number) => `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(5)}`;
  return [
    ["edit", edit.name],
    ["  unedited", `${edit.unedited_nats.toFixed(4)} nats`],
    ["  change", `${signed(edit.change)} nats`],
    [
      "  random",
      summary
        ? `${signed(summary.mean)} ± ${summary.deviation.toFixed(5)} nats`
        : "too few experts",
    ],
    [
      "  its tokens",
      edit.keepers.change === null
        ? "none kept them"
        : `${signed(edit.keepers.change)} nats, ${edit.keepers.tokens} tokens`,
    ],
    ...edit.by_token.slice(0, 5).map(({ text, count, change }): [string, string] => [
      `  ${JSON.stringify(text)}`,
      `${signed(change)} nats, ${count} times`,
    ]),
  ];
}

/** Storage and work of expanded MLPs beside those of the dense ones. */
function describeExpansion(expansion: MlpStorage): [string, string][] {
  const { stored_bits, dense_bits, multiply_adds, dense_multiply_adds } = expansion;
  const beside = (found: number, dense: number, unit: string) => {
    const count = (n: number) => Math.round(n).toLocaleString("en");
    return `${count(found)}, dense ${count(dense)} ${unit} (${(found / dense).toFixed(3)})`;
  };
  return [
    ["MLP storage", beside(stored_bits, dense_bits, "bits")],
    ["MLP work", beside(multiply_adds, dense_multiply_adds, "multiply-adds a token")],
  ];
}

/**
 * The card of an exported model: a README with the head that the Hugging Face hub reads.
 *
 * @module
 */

import type { PhrasingContent, Root, RootContent, TableRow } from "mdast";
import { gfmTableToMarkdown } from "mdast-util-gfm-table";
import { toMarkdown } from "mdast-util-to-markdown";
import { stringify } from "yaml";
import type { ModelProvenance } from "./provenance.ts";

/** Name of the card. */
export const CARD_FILE = "README.md";

/** The card's text. Texts from data are escaped. */
export function renderCard(
  provenance: ModelProvenance,
  options: { readonly license: string },
): string {
  const { model, run } = provenance;
  const kind = model.ffn.kind;
  const head = {
    license: options.license,
    library_name: "transformers",
    pipeline_tag: "text-generation",
    tags: [...new Set(["ethos", "webgpu", kind, model.attention.kind])],
    ...(provenance.source?.dataset !== undefined && { datasets: [provenance.source.dataset] }),
  };
  const children: RootContent[] = [
    heading(1, provenance.node?.node ?? `A ${kind} language model`),
    paragraph(
      "A language model that was trained from scratch with WGSL kernels on WebGPU. Every number below comes from the manifests of the run that made it; ",
      code("provenance.json"),
      " has all of them.",
    ),
    heading(2, "Use"),
    fenced(
      "python",
      [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER_OR_NAME", trust_remote_code=True)',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER_OR_NAME", trust_remote_code=True)',
        'ids = tokenizer(tokenizer.bos_token + "It was", return_tensors="pt").input_ids',
        "print(tokenizer.decode(model.generate(ids, max_new_tokens=40)[0]))",
      ].join("\n"),
    ),
    paragraph(
      "The model reads ",
      code(endOfText),
      " before a text, as in its training. The network is in ",
      code("ethos_torch.py"),
      ", which needs PyTorch alone: ",
      code('load("FOLDER")'),
      ".",
    ),
    heading(2, "Model"),
    table(["", ""], modelRows(provenance)),
    ...section("Training", trainingRows(provenance)),
    ...section("Data", dataRows(provenance)),
    ...section("Loss", lossRows(provenance)),
    heading(2, "Licence"),
    paragraph(
      "The licence of the weights is ",
      code(options.license),
      ". The Python files are part of the project that trained the model, under AGPL-3.0.",
      ...(run?.modified === true
        ? [" Files of the project differed from the commit when the model was trained."]
        : []),
    ),
  ];
  const root: Root = { type: "root", children };
  const body = toMarkdown(root, {
    extensions: [gfmTableToMarkdown({ tablePipeAlign: false })],
    bullet: "-",
    emphasis: "_",
  });
  return `---\n${stringify(head)}---\n\n${body}`;
}

const endOfText = "<|endoftext|>";

type Row = readonly [string, string | undefined];

function modelRows({ model, parameters, vocabulary, which }: ModelProvenance): Row[] {
  const { ffn, attention, trunk, leading_dense } = model;
  return [
    [
      "parameters",
      `${whole(parameters.stored)}, of which a token uses ${whole(parameters.active)}`,
    ],
    ["layers", `${model.num_layers}, the first ${leading_dense.num_layers} dense`],
    ["width", whole(model.d_model)],
    ["attention", `${attention.kind}, ${attention.num_heads} heads`],
    ["feed-forward", "router" in ffn ? `${ffn.kind}, ${ffn.router} router` : ffn.kind],
    [
      "positions",
      trunk.positions === "learned" ? `learned, ${trunk.max_positions}` : "rotary or none",
    ],
    ["vocabulary", `${vocabulary}, ${whole(model.vocab_size)} tokens`],
    ["which", which === "best" ? "the lowest held-out loss" : "the last update"],
  ];
}

function trainingRows({ node, run, training }: ModelProvenance): Row[] {
  return [
    ["node", node?.node],
    ["key", node?.key],
    ["updates", training && whole(training.steps)],
    ["predictions", training && whole(training.tokens)],
    ["run", run?.run],
    ["date", run?.started_at?.slice(0, 10)],
    ["time", run?.seconds === undefined ? undefined : `${run.seconds.toFixed(1)} s`],
    ["device", run?.adapter],
    ["runtime", run?.runtime],
    ["configuration", run?.config],
    ["commit", run?.commit && `${run.commit}${run.modified === true ? ", with changes" : ""}`],
  ];
}

function dataRows({ dataset, source }: ModelProvenance): Row[] {
  const split = (name: "train" | "validation") => {
    const counts = dataset?.splits[name];
    return counts &&
      `${whole(counts.tokens)} tokens, ${whole(counts.bytes)} bytes, ${
        whole(counts.documents)
      } documents`;
  };
  const { packages, files, revision } = source ?? {};
  return [
    ["source", [source?.dataset ?? source?.source, source?.config].filter(Boolean).join(", ")],
    ["revision", revision],
    ["files", files === undefined ? undefined : whole(files)],
    [
      "packages",
      packages?.map(({ name, version, licence }) => `${name} ${version} (${licence})`).join("; "),
    ],
    ["training text", split("train")],
    ["held-out text", split("validation")],
  ];
}

function lossRows({ training, evaluation, dataset }: ModelProvenance): Row[] {
  const perByte = (bits: number | null | undefined) =>
    bits === null || bits === undefined ? "" : `, ${bits.toFixed(4)} bits per byte`;
  return [
    [
      "evaluation",
      evaluation &&
      `${evaluation.nats.toFixed(4)} nats a token over ${
        whole(evaluation.tokens)
      } tokens of ${evaluation.split}${perByte(evaluation.bits_per_byte)}`,
    ],
    [
      "after the last update",
      training &&
      `${training.last.nats.toFixed(4)} nats a token${perByte(training.last.bits_per_byte)}`,
    ],
    [
      "lowest",
      training &&
      `${training.best.nats.toFixed(4)} nats a token, after ${whole(training.best.step)} updates`,
    ],
    [
      "without context",
      dataset && `${dataset.splits.validation.unigram_entropy_nats.toFixed(4)} nats a token`,
    ],
  ];
}

/** A heading and a table; nothing where no row is known. */
function section(title: string, rows: readonly Row[]): RootContent[] {
  return rows.some(([, value]) => value) ? [heading(2, title), table(["", ""], rows)] : [];
}

function heading(depth: 1 | 2, value: string): RootContent {
  return { type: "heading", depth, children: [{ type: "text", value }] };
}

function code(value: string): PhrasingContent {
  return { type: "inlineCode", value };
}

function paragraph(...parts: readonly (string | PhrasingContent)[]): RootContent {
  return {
    type: "paragraph",
    children: parts.map((part) => typeof part === "string" ? { type: "text", value: part } : part),
  };
}

function fenced(lang: string, value: string): RootContent {
  return { type: "code", lang, value };
}

function table(head: readonly [string, string], rows: readonly Row[]): RootContent {
  const row = (cells: readonly string[]): TableRow => ({
    type: "tableRow",
    children: cells.map((value) => ({ type: "tableCell", children: [{ type: "text", value }] })),
  });
  const given = rows.flatMap(([name, value]) => value ? [row([name, value])] : []);
  return { type: "table", children: [row(head), ...given] };
}

function whole(value: number): string {
  return value.toLocaleString("en-US");
}

/**
 * "The run": data, model, training, hardware, and the one result in a sentence.
 *
 * @module
 */

import { basename } from "@std/path";
import { expertsOf } from "../../../model/ffn/ethos/schema.ts";
import type { ModelConfig } from "../../../model/section.ts";
import type { JsonValue } from "../../../pipeline/stage.ts";
import type { SplitCounts } from "../../dataset_result.ts";
import { bytesText, compact } from "../figures/series.ts";
import { summarize, type Summary } from "../../ablate/statistics.ts";
import { PAPER } from "../theory/paper.ts";
import {
  baseEvaluations,
  baseModels,
  curve,
  isObject,
  type JsonObject,
  numberField,
  objectField,
  type ReportData,
  type TrainedModel,
} from "../data.ts";
import { md, type Prose, type Section } from "../document.ts";
import { adapterOf, ethosSizes, fixed, provenanceText, whole, withInterval } from "../facts.ts";
import type { SectionContext } from "./context.ts";

/** Held-out loss of the base over its seeds; absent without evaluations. */
function baseLoss(data: ReportData): Summary | undefined {
  const nats = baseEvaluations(data).map(({ result }) => result.nats);
  return nats.length > 0 ? summarize(nats) : undefined;
}

/** The first paragraphs, before any heading. */
export function lead(context: SectionContext): Prose {
  const loss = baseLoss(context.data);
  const { facts } = context;
  const unigram = context.data.dataset?.result.splits.validation.unigram_entropy_nats;
  if (facts === undefined || loss === undefined) {
    return md`This run has no trained and evaluated base model, so what follows is the paper's arithmetic and theory only.`;
  }
  const share = PAPER_SIZE / facts.arithmetic.stored;
  const scale = share < 1.5
    ? md`It has ${compact(facts.arithmetic.stored)} stored parameters, the paper's size.`
    : md`It has ${compact(facts.arithmetic.stored)} stored parameters, ${
      whole(Number(share.toPrecision(2)))
    } times fewer than the paper's, and what holds here need not hold there.`;
  const against = unigram === undefined
    ? md``
    : md`A model that knows only how often each token occurs would need ${
      fixed(unigram, 3)
    } nats: the base is ${fixed(Math.abs(unigram - loss.mean), 3)} nats ${
      loss.mean < unigram
        ? "below"
        : { type: "strong", children: [{ type: "text", value: "above" }] }
    } that.`;
  return {
    kind: "prose",
    nodes: [
      ...md`The base model reaches ${
        withInterval(loss)
      } nats a token on held-out text, mean and 95 % interval over seeds.`.nodes,
      ...against.nodes,
      ...scale.nodes,
    ],
  };
}

/** Stored parameters of the paper's configuration. */
const PAPER_SIZE = 743_979_008;

/** Sizes of a model in words. */
function modelText(config: ModelConfig): string {
  const { d_model, num_layers, leading_dense } = config;
  const { kind, ...ffn } = config.ffn;
  const ethos = ethosSizes(config);
  const sizes = ethos === undefined
    ? `${kind} feed-forwards (${
      Object.entries(ffn).map(([key, value]) => `${key} ${value}`).join(", ")
    })`
    : `${
      whole(expertsOf(ethos))
    } experts a layer, ${ethos.routing_heads} heads × top ${ethos.top_k}, ` +
      `latent ${ethos.d_latent}, hidden ${ethos.d_hidden}`;
  return `width ${d_model}, ${num_layers} layers (${leading_dense.num_layers} dense), ${sizes}`;
}

/** The section. */
export function runSection(context: SectionContext): Section {
  const { data, facts } = context;
  const models = baseModels(data);
  const { train, validation } = data.dataset?.result.splits ?? {};
  const source = data.source?.result;
  const seeds = models.flatMap((m) => m.seed ?? []);
  const adapter = adapterOf(models);
  const rows: string[][] = [
    ["text", sourceName(source) ?? "not recorded"],
    ["training split", splitText(train)],
    ["held-out split", splitText(validation)],
  ];
  if (facts) {
    const { config } = facts.architecture;
    rows.push(
      ["vocabulary", `${vocabularyName(data)}${whole(config.vocab_size)} tokens`],
      ["model", modelText(config)],
      [
        "parameters",
        `${compact(facts.arithmetic.stored)} stored, ${
          compact(facts.arithmetic.active)
        } active a token`,
      ],
      [
        "step",
        (facts.singleDocuments
          ? `${whole(facts.tokensPerStep)} tokens in the mean, a document a sequence of at most ${
            whole(facts.sequenceLength)
          } `
          : `${whole(facts.tokensPerStep)} tokens in sequences of ${
            whole(facts.sequenceLength)
          } `) +
        `(paper: ${whole(PAPER.tokensPerStep)})`,
      ],
    );
    const [base] = models;
    const trained = numberField(base?.summary, "tokens");
    if (trained !== undefined) {
      const steps = whole(numberField(base?.summary, "steps"));
      const epochs = train?.tokens
        ? `, ${Number((trained / train.tokens).toPrecision(3))} passes over the text`
        : "";
      rows.push([
        "training",
        `${steps} steps, ${compact(trained)} tokens a model (paper: 4 B)${epochs}`,
      ]);
    }
  }
  rows.push(
    ["seeds of the base", seeds.length > 0 ? seeds.join(", ") : "not recorded"],
    ["models trained", String(data.models.length)],
    ["adapter", adapter ?? "not recorded"],
    ...provenanceRows(models),
  );
  const memory = Math.max(...models.flatMap((m) => curve(m, "memory_bytes").map((p) => p.value)));
  if (Number.isFinite(memory)) rows.push(["largest device memory", bytesText(memory)]);
  const losses = baseEvaluations(data).map((e) => [
    e.seed === undefined ? e.name : String(e.seed),
    ...(["nats", "perplexity", "bits_per_byte"] as const).map((key) => {
      const value = e.result[key];
      return value === null ? "–" : fixed(value, 3);
    }),
    whole(e.result.tokens),
  ]);
  return {
    id: "run",
    title: "The run",
    blocks: [
      { kind: "table", title: "Data, model and training", header: ["", ""], rows },
      ...(losses.length > 0
        ? [{
          kind: "table" as const,
          title: "Base model on held-out text, one row a seed",
          header: ["seed", "nats a token", "perplexity", "bits a byte", "tokens scored"],
          rows: losses,
          numbersFrom: 1,
        }]
        : [md`No base model was evaluated in this run.`]),
      md`Perplexity depends on the vocabulary; bits a byte do not, so they are what to compare across tokenizers. The authors report a perplexity of ${PAPER.perplexity} after 4 B tokens of C4 with \`cl100k_base\`; unless text, vocabulary and number of tokens are the same here, that is no figure to compare with.`,
    ],
  };
}

function vocabularyName(data: ReportData): string {
  const name = data.dataset?.result.vocabulary;
  return name === undefined ? "" : `${name}, `;
}

/** The provenance of the base, beside its adapter. Older nodes did not record it. */
function provenanceRows(models: readonly TrainedModel[]): string[][] {
  const said = (key: string) => provenanceText(models, key);
  const commit = said("commit");
  const modified = models.find((m) => m.provenance.commit !== undefined)?.provenance.modified;
  const digest = said("configuration");
  const deno = said("deno");
  const rows: [string, string | undefined][] = [
    ["runtime", join(said("runtime"), deno && `Deno ${deno}`)],
    ["commit", commit && `${commit}${modified === true ? ", with changes" : ""}`],
    ["configuration", join(said("config"), digest && `SHA-256 ${digest}`)],
  ];
  return rows.flatMap(([name, value]) => value === undefined ? [] : [[name, value]]);
}

function join(...parts: (string | undefined)[]): string | undefined {
  const known = parts.filter((part) => part !== undefined && part !== "");
  return known.length > 0 ? known.join(", ") : undefined;
}

function sourceName(source: JsonObject | undefined): string | undefined {
  if (source === undefined) return undefined;
  const name = source.source ?? source.name ?? source.kind;
  if (typeof name !== "string") return undefined;
  const { revision, dataset } = source;
  return [
    name === "hub" && typeof dataset === "string" ? dataset : name,
    ...(typeof revision === "string" ? [`revision ${revision.slice(0, 12)}`] : []),
    ...fileNames(source.files),
    ...(Array.isArray(source.packages)
      ? (source.packages as readonly JsonValue[]).filter(isObject).flatMap(({ name }) =>
        typeof name === "string" ? [name] : []
      )
      : []),
    ...fileNames(objectField(source, "validation")?.files).map((file) => `held out: ${file}`),
  ].join(", ");
}

/** Names of files without their folders. */
function fileNames(files: JsonValue | undefined): string[] {
  if (!Array.isArray(files)) return [];
  return (files as readonly JsonValue[]).flatMap((file) =>
    typeof file === "string" ? [basename(file)] : []
  );
}

function splitText(split: SplitCounts | undefined): string {
  if (split === undefined) return "not recorded";
  const { documents, tokens, bytes } = split;
  return `${whole(documents)} documents, ${whole(tokens)} tokens, ${whole(bytes)} bytes of UTF-8`;
}

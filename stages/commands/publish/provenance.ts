/**
 * Where a model comes from, as the store knows it: its node, what it was trained on, how well it does.
 *
 * @module
 */

import { basename, dirname, join } from "@std/path";
import { z } from "zod";
import type { ModelConfig } from "../../../model/section.ts";
import { countParameters } from "../../../model/trunk/counts.ts";
import type { JsonValue } from "../../../pipeline/stage.ts";
import { type NodeRecord, Records } from "../../../pipeline/store/records/records.ts";
import { datasetSchema } from "../../dataset_result.ts";
import { evaluationSchema } from "../../evaluate/result.ts";
import {
  type CheckpointKind,
  findInput,
  NODE_FILE,
  type OpenedCheckpoint,
} from "../model/checkpoints.ts";

/** Name of the file beside an exported model. */
export const PROVENANCE_FILE = "provenance.json";

const measured = z.object({
  step: z.int(),
  nats: z.number(),
  bits_per_byte: z.number().nullish(),
});

const summarySchema = z.object({ steps: z.int(), tokens: z.int(), last: measured, best: measured });

const runSchema = z.object({
  run: z.string(),
  started_at: z.string(),
  seconds: z.number(),
  commit: z.string(),
  modified: z.boolean(),
  config: z.string(),
  adapter: z.string(),
  runtime: z.string(),
  deno: z.string(),
}).partial();

// Paths of the user's files are private: they are counted.
const sourceSchema = z.object({
  source: z.string(),
  files: z.array(z.unknown()).transform((files) => files.length),
  packages: z.array(z.object({
    name: z.string(),
    version: z.string(),
    licence: z.string(),
  })),
  dataset: z.string(),
  config: z.string(),
  revision: z.string(),
}).partial();

const nodeSchema = z.object({
  node: z.string(),
  key: z.string(),
  labels: z.record(z.string(), z.json()).default({}),
  params: z.json().transform(withoutFolders),
  provenance: z.unknown(),
});

/** Parameters with the name of the file that a training started from, without its folders. */
function withoutFolders(params: JsonValue): JsonValue {
  const parsed = z.looseObject({
    train: z.looseObject({ initial: z.looseObject({ checkpoint: z.string() }) }),
  }).safeParse(params);
  if (!parsed.success) return params;
  const { train } = parsed.data;
  const checkpoint = basename(train.initial.checkpoint);
  return {
    ...parsed.data,
    train: { ...train, initial: { ...train.initial, checkpoint } },
  } as JsonValue;
}

/** The known facts of a model. Absent parts are not known: a folder knows less than the store. */
export interface ModelProvenance {
  /** Which model of the training. */
  readonly which: CheckpointKind;
  readonly model: ModelConfig;
  readonly parameters: { readonly stored: number; readonly active: number };
  readonly vocabulary: string;
  readonly node?: Omit<z.infer<typeof nodeSchema>, "provenance">;
  readonly run?: z.infer<typeof runSchema>;
  readonly training?: z.infer<typeof summarySchema>;
  readonly dataset?: z.infer<typeof datasetSchema>;
  readonly source?: z.infer<typeof sourceSchema>;
  /** Of the last model on the split that it names. */
  readonly evaluation?: Pick<
    z.infer<typeof evaluationSchema>,
    "split" | "tokens" | "nats" | "perplexity" | "bits_per_byte"
  >;
}

/** Gathers it from the manifests of the node and of those before and behind it, or from the `node.json` of a folder. */
export async function gatherProvenance(
  checkpoint: OpenedCheckpoint,
  options: { readonly which: CheckpointKind; readonly storeDir: string },
): Promise<ModelProvenance> {
  const { architecture, record, vocabulary } = checkpoint;
  const { stored, active } = countParameters(architecture);
  const node = record === undefined
    ? await readNode(join(dirname(vocabulary), NODE_FILE))
    : { ...record, params: record.components.params };
  const parsed = nodeSchema.safeParse(node).data;
  const { provenance, ...named } = parsed ?? {};
  const about = record === undefined ? {} : await ofStore(record, options);
  const { vocabulary: kind } = z.object({ vocabulary: z.string() })
    .parse(JSON.parse(await Deno.readTextFile(vocabulary)));
  return {
    which: options.which,
    model: architecture.config,
    parameters: { stored, active },
    vocabulary: kind,
    ...known("node", parsed && named as ModelProvenance["node"]),
    ...known("run", runSchema.safeParse(provenance).data),
    ...about,
  };
}

/** The manifests' facts of a node's training, its data and its evaluation. */
async function ofStore(
  record: NodeRecord,
  { which, storeDir }: { readonly which: CheckpointKind; readonly storeDir: string },
): Promise<Partial<ModelProvenance>> {
  const tokenized = await findInput(record, { input: "dataset", storeDir });
  const downloaded = tokenized && await findInput(tokenized, { input: "download", storeDir });
  // Only the last model is evaluated.
  const evaluated = which === "last" ? await evaluationOf(record, storeDir) : undefined;
  const evaluation = evaluationSchema.safeParse(evaluated && jsonOutput(evaluated, "evaluation"));
  const { split, tokens, nats, perplexity, bits_per_byte } = evaluation.data ?? {};
  return {
    ...known("training", summarySchema.safeParse(jsonOutput(record, "summary")).data),
    ...known(
      "dataset",
      datasetSchema.safeParse(tokenized && jsonOutput(tokenized, "dataset")).data,
    ),
    ...known(
      "source",
      downloaded && sourceSchema.safeParse(jsonOutput(downloaded, "source")).data,
    ),
    ...(evaluation.success && {
      evaluation: {
        split: split!,
        tokens: tokens!,
        nats: nats!,
        perplexity: perplexity!,
        bits_per_byte: bits_per_byte!,
      },
    }),
  };
}

function known<Key extends string, Value>(
  key: Key,
  value: Value | undefined,
): { readonly [K in Key]?: Value } {
  return (value === undefined ? {} : { [key]: value }) as { readonly [K in Key]?: Value };
}

function jsonOutput(record: NodeRecord, name: string): unknown {
  const output = record.outputs[name];
  return output?.kind === "json" ? output.value : undefined;
}

/** The node that evaluated this one. */
async function evaluationOf(
  record: NodeRecord,
  storeDir: string,
): Promise<NodeRecord | undefined> {
  const records = new Records(storeDir, "");
  for (const key of await records.nodeKeys()) {
    const found = await records.readNode(key);
    if (found?.stage !== "evaluate") continue;
    if (found.components.inputs["train"]?.[0]?.node !== record.node) continue;
    if ((await findInput(found, { input: "train", storeDir }))?.key === record.key) return found;
  }
}

async function readNode(path: string): Promise<unknown> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

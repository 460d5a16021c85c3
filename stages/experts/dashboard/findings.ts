/**
 * The part of `experts.json` that the dashboard's page shows, checked: a file may be of another program, or damaged.
 *
 * @module
 */

import { z } from "zod";
import type { ExpertFindings } from "../explore.ts";
import { type Promised, promises } from "../holds.ts";
import { LABEL_NAMES, LABELS } from "../specialisation.ts";

/** JSON has no word for a number that is not finite. */
const number = z.number().nullable();
const layer = z.int();
const summary = z.object({ count: z.int(), mean: z.number(), deviation: z.number() });
const tokens = z.array(z.object({ token: z.string(), share: z.number() }));
const coordinates = z.object({ x: z.array(z.number()), y: z.array(z.number()) });
const neighbours = z.object({ pca: z.number(), umap: z.number() });
const names = z.record(z.string(), z.array(z.string()));
const errorControls = z.object({ above: summary, below: summary, largest: summary });

const schema = z.object({
  format: z.literal("experts"),
  version: z.literal(1),
  checkpoint: z.string(),
  key: z.string().optional(),
  kind: z.string(),
  text: z.array(z.string()),
  sequence_length: z.int(),
  predictions: z.int(),
  seed: z.int(),
  controls: z.int(),
  gpu: z.object({ adapter: z.string(), runtime: z.string() }),
  use: z.array(z.object({
    layer,
    experts: z.number(),
    kept: z.number(),
    assignments: z.number(),
    used: z.number(),
    used_by_chance: z.number(),
    half: z.number(),
    unevenness: number,
  })),
  // Earlier findings have neither this list nor texts of tokens.
  used: z.array(z.object({
    layer,
    experts: z.array(
      z.object({ expert: z.string(), uses: z.number(), mean_weight: z.number(), tokens }),
    ),
  })).default([]),
  token_texts: z.record(z.string(), z.string()).default({}),
  contexts: z.array(z.object({
    layer,
    expert: z.string(),
    uses: z.number(),
    mean_weight: z.number(),
    specificity: number.optional().default(null),
    contexts: z.array(z.object({
      sequence: z.int(),
      position: z.int(),
      token: z.string(),
      weight: z.number(),
      before: z.string(),
      after: z.string(),
    })),
    tokens,
  })),
  specialisation: z.array(z.object({
    layer,
    label: z.enum(LABELS),
    plugin: z.number(),
    corrected: z.number(),
    shuffled: summary,
    same_token: summary,
    random: summary,
    beyond_shuffled: z.number(),
    beyond_same_token: z.number(),
  })),
  clusters: z.array(z.object({
    layer,
    width: z.number(),
    experts: z.number(),
    clusters: z.array(z.object({ cluster: z.int(), experts: z.number() })),
    explained: z.number(),
    explained_shuffled: z.number(),
    map: z.object({
      experts: z.array(z.string()),
      labels: z.array(z.int().min(0)),
      pca: coordinates,
      umap: coordinates,
      neighbours,
      neighbours_shuffled: neighbours,
    }).refine(({ experts, labels, pca, umap }) =>
      [labels, pca.x, pca.y, umap.x, umap.y].every(({ length }) => length === experts.length)
    ),
  })),
  ablation: z.object({
    tokens: z.int(),
    nats: z.number(),
    edits: z.array(z.object({
      name: z.string(),
      experts: names,
      use: z.number(),
      nats: number,
      change: z.number(),
      keepers: z.object({ tokens: z.number(), change: number }),
      controls: z.object({
        experts: z.array(names),
        use: z.array(z.number()),
        changes: z.array(z.number()),
        summary: summary.optional(),
      }),
      by_token: z.array(
        z.object({ token: z.int(), count: z.number(), nats: number, change: z.number() }),
      ),
    })),
  }),
  strongest: z.array(z.object({
    layer,
    expert: z.string(),
    use: z.number(),
    change: z.number(),
    tried: z.int(),
  })),
  errors: z.array(z.object({
    layer,
    experts: z.number(),
    above: z.number(),
    below: z.number(),
    largest: number,
    shuffled: errorControls,
    same_token: errorControls,
    worst: z.array(z.object({
      layer,
      expert: z.string(),
      uses: z.number(),
      excess: z.number(),
      z: z.number(),
    })),
  })),
  paths: z.array(z.object({
    end: z.enum(["near", "random"]),
    path: z.object({
      layer,
      from: z.string(),
      to: z.string(),
      without: z.object({ divergence: z.number() }),
      points: z.array(z.object({
        share: z.number(),
        divergence: z.number(),
        best: z.array(z.object({ token: z.int(), probability: z.number() })),
      })).min(1),
    }),
  })),
});

/** Findings as the page gets them, with the promises of the paper's section 8.2 judged. */
export type ShownFindings = z.infer<typeof schema> & {
  readonly promises: readonly Promised[];
  /** Names of the labels that experts may go with. */
  readonly labels: typeof LABEL_NAMES;
};

/** The findings that a value holds, or the reason why it holds none. */
export function shownFindings(value: unknown): ShownFindings | string {
  const { success, data, error } = schema.safeParse(value);
  if (!success) {
    const [issue] = error.issues;
    return `${issue!.path.join(".") || "the file"}: ${
      issue!.message
    }; expected findings of \`experts\`, version 1.`;
  }
  // All that the judgement reads was checked.
  return { ...data, promises: promises(data as unknown as ExpertFindings), labels: LABEL_NAMES };
}

/**
 * Findings as `experts` writes them, made by hand: two layers of four experts.
 *
 * @module
 */

import { join } from "@std/path";

const summary = (mean: number) => ({ count: 3, mean, deviation: 0.1 });
const EXPERTS = ["10", "11", "12", "13"];

/** Findings in which names and texts of the data are `text`. */
export function madeFindings(text: string): Record<string, unknown> {
  const layers = [1, 2];
  const named = (layer: number, i: number) => ({ layer, expert: EXPERTS[i]! });
  const map = {
    experts: EXPERTS,
    labels: [0, 0, 1, 1],
    pca: { x: [0, 1, 2, 3], y: [0, 0, 0, 0], explained: [0.5, 0.2] },
    umap: { x: [0, 10, 10, 0], y: [0, 0, 10, 10] },
    neighbours: { pca: 0.5, umap: 1 },
    neighbours_shuffled: { pca: 0.25, umap: 0.5 },
  };
  const edit = (name: string, change: number, controls = true) => ({
    name,
    experts: { [name[0]!]: [name.slice(2)] },
    use: 40,
    nats: 3 + change,
    change,
    keepers: { tokens: 40, change: 2 * change },
    controls: {
      experts: controls ? [{ 1: ["13"] }] : [],
      use: controls ? [38] : [],
      changes: controls ? [0.01] : [],
      ...controls && { summary: summary(0.01) },
    },
    by_token: [{ token: 7, count: 3, nats: 2, change }],
  });
  const controls = { above: summary(1), below: summary(1), largest: summary(3) };
  return {
    format: "experts",
    version: 1,
    checkpoint: text,
    kind: "ethos",
    text: [text],
    sequence_length: 32,
    predictions: 1000,
    trace: { rows: 8000, bytes: 100 },
    seed: 1,
    controls: 3,
    use: layers.map((layer) => ({
      ...{ layer, kind: "ethos", experts: 16, kept: 2, assignments: 2000, used: 4 },
      ...{ used_by_chance: 16, half: 2, unevenness: null },
    })),
    used: layers.map((layer) => ({
      layer,
      experts: EXPERTS.map((expert, i) => ({
        ...{ expert, uses: 40 - i, mean_weight: 0.5 },
        tokens: [{ token: i === 2 ? "river" : text, share: 0.5 }],
      })),
    })),
    token_texts: { 7: text },
    contexts: [0, 1].map((i) => ({
      ...named(1, i),
      ...{ uses: 40 - i, mean_weight: 0.5, specificity: i === 0 ? 2 : null },
      contexts: [
        { sequence: 0, position: 3, weight: 0.9, token: "house", before: text, after: "\n" },
      ],
      tokens: [{ token: text, share: 0.5 }, { token: " the", share: 0.05 }],
    })),
    specialisation: layers.map((layer) => ({
      ...{ layer, label: "token", plugin: 2, corrected: 1.9, pairs: 9, entropy_x: 1, entropy_y: 1 },
      ...{ shuffled: summary(0.1), same_token: summary(2), random: summary(0.1) },
      ...{ beyond_shuffled: 1.8, beyond_same_token: 0 },
    })),
    training: [],
    clusters: layers.map((layer) => ({
      ...{ layer, width: 8, experts: 16, explained: 0.2, explained_shuffled: 0.15, map },
      clusters: [{ cluster: 0, experts: 9 }, { cluster: 1, experts: 7 }],
    })),
    ablation: {
      ...{ tokens: 1000, nats: 3 },
      edits: [edit("1:10", 0.2), edit("1:11", -0.001), edit("1:c0", 0.5, false)],
    },
    strongest: [{ ...named(1, 0), use: 40, change: 0.2, tried: 5 }],
    errors: layers.map((layer) => ({
      ...{ layer, experts: 4, above: 2, below: 1, largest: 5 },
      ...{ shuffled: controls, same_token: controls },
      worst: [{ ...named(layer, 3), uses: 30, excess: 0.4, z: 5 }],
    })),
    paths: (["near", "random"] as const).map((end, i) => ({
      end,
      path: {
        ...{ layer: 1, from: "10", to: EXPERTS[i + 1], without: { loss: 3, divergence: 0.4 } },
        points: [{ share: 1, divergence: 0.3, best: [{ token: 7, probability: 0.5 }] }],
      },
    })),
    gpu: { adapter: text, runtime: "deno" },
  };
}

/** Makes a folder with findings, a report and a figure. */
export async function writeFolder(folder: string, findings: unknown): Promise<void> {
  await Deno.mkdir(join(folder, "figures"), { recursive: true });
  await Deno.writeTextFile(join(folder, "experts.json"), JSON.stringify(findings));
  await Deno.writeTextFile(join(folder, "report.html"), "<!DOCTYPE html><title>Report</title>");
  await Deno.writeTextFile(
    join(folder, "figures", "expert_map.svg"),
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
  );
}

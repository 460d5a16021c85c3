/**
 * Claims of PEER (He 2024, "Mixture of A Million Experts") that the paper leans on.
 *
 * @module
 */

import type { Claim, Evidence } from "./claim.ts";

const claim = (more: Omit<Claim, "source">): Claim => ({ source: "peer", ...more });

/** The claims. */
export const PEER_CLAIMS: readonly Claim[] = [
  claim({
    place: "retrieval",
    statement: "Product keys find the best of N experts with O(√N) comparisons, not N.",
    claimed: { value: 0.01, unit: "share", ours: true },
    rule: { kind: "at_most" },
    figures: [{ label: "of 262,144 comparisons a head", count: "ethos.scores" }],
  }),
  claim({
    place: "title",
    statement: "A layer can have more than a million experts.",
    claimed: { value: 1e6, unit: "number" },
    rule: { kind: "at_least" },
    figures: [{
      label: "experts a layer in a measured training step, one H200",
      value: {
        json: "h200/measured/dawn-scaling.json",
        at: ["entries", { id: "scaling.num_experts.1048576.auto" }, "params", "value"],
      },
    }],
  }),
  claim({
    place: "introduction",
    statement: "The number of experts and the cost of a token are decoupled.",
    claimed: { value: 2, unit: "times", ours: true },
    rule: { kind: "at_most" },
    figures: (["dawn", "deno"] as const).map((runtime) => {
      const time = (experts: number) => ({
        json: `h200/measured/${runtime}-scaling.json`,
        at: ["entries", { id: `scaling.num_experts.${experts}.fused` }, "median"],
      });
      return {
        label: `a step with 1,048,576 against 4,096 experts, ${
          runtime === "dawn" ? "Dawn" : "Deno"
        }, ETHOS`,
        ratio: [time(1048576), time(4096)],
      };
    }),
  }),
  claim({
    place: "ablations",
    statement: "Nearly all of the experts are used.",
    claimed: { value: 0.95, unit: "share", ours: true },
    rule: { kind: "at_least" },
    figures: [
      ["h200", "262,144 experts of the paper's model, 400 steps"],
      ["h200-small", "16,384 experts, 8.23 M parameters, 400 steps"],
    ].map(([folder, label]): Evidence => ({
      label: `${label}, ETHOS`,
      value: {
        csv: `${folder}/figures/expert_usage.csv`,
        where: { panel: "usage" },
        column: "value",
        latest: "step",
        scale: 0.01,
      },
    })).concat({
      label: "16,384 experts, 47 M parameters, 640 steps, PEER",
      value: {
        csv: "h200-architectures/figures/expert_use_equal_active.csv",
        where: { metric: "expert_usage", place: "step", architecture: "peer" },
        column: "value",
        latest: "x",
        scale: 0.01,
      },
    }),
    open: { verdict: "not measured yet", reason: "at the end of a full training" },
    run: "expert_usage",
  }),
  claim({
    place: "ablations",
    statement: "Batch norm of the queries lowers the loss.",
    claimed: { value: 0, unit: "nats", ours: true },
    rule: { kind: "above" },
    figures: [{
      label: "loss without it − with it, ETHOS, 8.23 M parameters",
      value: {
        csv: "h200-small/figures/ablation_batch_norm.csv",
        where: { value: "false" },
        column: "difference",
        interval: true,
      },
    }],
    run: "batch_norm",
  }),
  claim({
    place: "experiments",
    statement: "Many small experts reach a lower loss than a dense layer at equal cost.",
    claimed: { value: 0, unit: "nats", ours: true },
    rule: { kind: "above" },
    figures: (["peer", "ethos"] as const).flatMap((kind) =>
      ([["active", "active parameters"], ["flops", "operations"]] as const).map(([cost, name]) => ({
        label: `loss of dense − of ${kind.toUpperCase()}, equal ${name}, 640 steps`,
        value: {
          csv: `h200-architectures/figures/ablation_equal_${cost}.csv`,
          where: { value: kind },
          column: "against_dense",
          scale: -1,
          interval: true,
        },
      }))
    ),
    open: { verdict: "not measured yet", reason: "at the sizes and lengths of the sources" },
    run: "dense",
  }),
  claim({
    place: "ablations",
    statement: "More experts at the same active parameters lower the loss.",
    claimed: { value: 0, unit: "nats", ours: true },
    rule: { kind: "above" },
    figures: [],
    open: {
      verdict: "not measured yet",
      reason: "no sweep of num_experts with losses is kept; the one that is kept measures time",
    },
  }),
];

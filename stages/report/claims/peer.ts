/**
 * Claims of PEER (He 2024, "Mixture of A Million Experts") that the paper leans on.
 *
 * @module
 */

import type { Claim } from "./claim.ts";

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
    ].map(([folder, label]) => ({
      label: label!,
      value: {
        csv: `${folder}/figures/expert_usage.csv`,
        where: { panel: "usage" },
        column: "value",
        latest: "step",
        scale: 0.01,
      },
    })),
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
    figures: [{
      label: "loss of dense − of ETHOS, equal active parameters, 8.23 M parameters, 400 steps",
      value: {
        csv: "h200-small/figures/ablation_architecture.csv",
        where: { value: "dense" },
        column: "difference",
        interval: true,
      },
    }],
    open: { verdict: "not measured yet", reason: "at the paper's size, and at equal operations" },
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

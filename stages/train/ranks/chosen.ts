/**
 * How many processes a training is shared by. No key has it: results depend on `train.gradient_groups`, not on who computes the groups.
 *
 * @module
 */

import type { JsonValue } from "../../../pipeline/stage.ts";

let chosen = 1;

/** Says how many ranks trainings of this process have. */
export function chooseRanks(ranks: number): void {
  chosen = ranks;
}

/** Ranks of a training; 1 unless chosen. */
export function chosenRanks(): number {
  return chosen;
}

/** A node, as far as ranks concern it. */
interface PlannedNode {
  readonly stage: { readonly name: string };
  readonly params: JsonValue;
  readonly inputs?: Readonly<Record<string, readonly PlannedNode[]>>;
}

/** The `train.gradient_groups` of those trainings, inputs of the nodes included, that so many ranks can't share evenly. */
export function unsharedGroups(nodes: readonly PlannedNode[], ranks: number): number[] {
  const found = new Set<number>();
  const seen = new Set<PlannedNode>();
  const visit = (node: PlannedNode) => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const inputs of Object.values(node.inputs ?? {})) inputs.forEach(visit);
    if (node.stage.name !== "train") return;
    const { train } = node.params as { train: { gradient_groups?: number } };
    const { gradient_groups = 1 } = train;
    if (gradient_groups % ranks !== 0) found.add(gradient_groups);
  };
  nodes.forEach(visit);
  return [...found];
}

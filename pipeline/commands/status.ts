/**
 * `status`: where every node stands, and why.
 *
 * @module
 */

import { type Command, type CommandContext, EXPERIMENT_OPTIONS } from "../command.ts";
import type { Graph, GraphNode } from "../graph.ts";
import type { Store } from "../store.ts";

/** Shows what is cached and what would run. */
export const status: Command = {
  name: "status",
  summary: "Show which nodes are cached, which would run, and why",
  examples: [
    ["status", "of the default configuration"],
    ["status --set model.d_latent=64", "what a changed value would cost"],
  ],
  options: EXPERIMENT_OPTIONS,
  async run(args, context) {
    const { graph } = await context.experiment(args);
    await context.withStore(
      { create: false, look: true },
      (store) => showPlan(graph, store, context),
    );
  },
};

/** Prints the plan of a graph. */
export async function showPlan(
  graph: Graph,
  store: Store,
  context: CommandContext,
  force?: ReadonlySet<GraphNode>,
): Promise<void> {
  const { Planner, readStageCode } = await import("../plan.ts");
  const planner = new Planner(store, await readStageCode(graph, context.program.root));
  const plan = await planner.plan(graph, force);
  if (context.json) {
    const nodes = plan.map(({ node, state, key, reasons }) => ({
      node: node.name,
      stage: node.stage.name,
      state,
      key: key ?? null,
      reasons,
    }));
    return context.print(JSON.stringify({ nodes }));
  }
  for (const { node, state, reasons } of plan) {
    const why = reasons.length === 0 ? "" : `: ${reasons.join("; ")}`;
    context.print(`${state.padEnd(8)} ${node.name}${why}`);
  }
  const cached = plan.filter(({ state }) => state === "cached").length;
  context.print(`${cached} of ${plan.length} nodes are cached.`);
}

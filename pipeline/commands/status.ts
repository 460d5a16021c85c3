/**
 * `status`: where every node stands, and why.
 *
 * @module
 */

import {
  type Command,
  type CommandContext,
  EXPERIMENT_OPTIONS,
  INPUT_OPTIONS,
  type OptionSpec,
} from "../command.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import type { Store } from "../store/store.ts";
import type { PreviewedScript } from "./executor_options.ts";

/** `--all`, for commands that fold long lists. */
export const ALL_OPTION: Readonly<Record<string, OptionSpec>> = {
  all: { type: "boolean", describe: "List every node, also where many are the same" },
};

/** Shows what is cached and what would run. */
export const status: Command = {
  name: "status",
  summary: "Show which nodes are cached, which would run, and why",
  examples: [
    ["status", "of the default configuration"],
    ["status --set model.ffn.d_latent=64", "what a changed value would cost"],
  ],
  options: { ...EXPERIMENT_OPTIONS, ...INPUT_OPTIONS, ...ALL_OPTION },
  async run(args, context) {
    const { graph } = await context.experiment(args);
    await context.withStore(
      { create: false, look: true },
      (store) => showPlan(graph, store, context, { all: args["all"] === true }),
    );
  },
};

/** Prints the plan of a graph; nodes of which the same is to be said share a line unless `all`. */
export async function showPlan(
  graph: Graph,
  store: Store,
  context: CommandContext,
  options: {
    force?: ReadonlySet<GraphNode>;
    all?: boolean;
    /** Scripts that would be sent for nodes that would run. */
    scripts?: (nodes: readonly GraphNode[]) => readonly PreviewedScript[];
  } = {},
): Promise<void> {
  const { Planner, readNodeCode } = await import("../run/plan.ts");
  const planner = new Planner(store, await readNodeCode(graph, context.program.root));
  const plan = await planner.plan(graph, options.force);
  const scripts = options.scripts?.(
    plan.filter(({ state }) => state !== "cached").map(({ node }) => node),
  );
  if (context.json) {
    const nodes = plan.map(({ node, state, key, reasons }) => ({
      node: node.name,
      stage: node.stage.name,
      state,
      key: key ?? null,
      reasons,
    }));
    return context.print(JSON.stringify({ nodes, ...scripts && { scripts } }));
  }
  const { foldNodes } = await import("../graph/fold.ts");
  const lines = plan.map(({ node, state, reasons }) => (
    { node: node.name, stage: node.stage.name, state, note: reasons.join("; ") }
  ));
  for (const { node, state, note } of options.all ? lines : foldNodes(lines)) {
    context.print(`${state.padEnd(8)} ${node}${note === "" ? "" : `: ${note}`}`, { hang: 9 });
  }
  const cached = plan.filter(({ state }) => state === "cached").length;
  context.print(`${cached} of ${plan.length} nodes are cached.`);
  for (const { stage, nodes, script } of scripts ?? []) {
    const names = `${nodes.slice(0, 3).join(", ")}${nodes.length > 3 ? ", …" : ""}`;
    context.print(`\n# ${stage}, at most ${nodes.length} at once: ${names}`);
    for (const line of script.trimEnd().split("\n")) context.print(line, { hang: Infinity });
  }
}

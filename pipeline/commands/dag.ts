/**
 * `dag`: a picture of the nodes.
 *
 * @module
 */

import { type Command, EXPERIMENT_OPTIONS } from "../command.ts";

/** Draws the graph of a configuration. */
export const dag: Command = {
  name: "dag",
  summary: "Draw the nodes and what they read",
  examples: [
    ["dag", "as text"],
    ["dag --format svg > dag.svg", "as an image"],
    ["dag --format mermaid", "for a page that draws Mermaid"],
  ],
  options: {
    ...EXPERIMENT_OPTIONS,
    format: {
      choices: ["text", "mermaid", "svg"],
      default: "text",
      requiresArg: true,
      describe: "How to draw it",
    },
  },
  async run(args, context) {
    const { graph } = await context.experiment(args);
    if (context.json) {
      const nodes = graph.nodes.map((node) => ({
        node: node.name,
        stage: node.stage.name,
        resource: node.stage.resource ?? "cpu",
        inputs: Object.fromEntries(
          Object.entries(node.inputs).map(([name, list]) => [name, list.map((n) => n.name)]),
        ),
      }));
      return context.print(JSON.stringify({ nodes }));
    }
    const { renderMermaid, renderSvg, renderText } = await import("../graph/dag_render.ts");
    const format = String(args["format"]);
    const render = format === "svg" ? renderSvg : format === "mermaid" ? renderMermaid : renderText;
    context.print(render(graph), format === "text" ? { hang: 4 } : undefined);
  },
};

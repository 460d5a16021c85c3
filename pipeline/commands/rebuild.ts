/**
 * `rebuild`: the catalogue anew from the manifests.
 *
 * @module
 */

import type { Command } from "../command.ts";

/** Rebuilds the catalogue. */
export const rebuild: Command = {
  name: "rebuild",
  summary: "Make the catalogue anew from the manifests beside the objects",
  examples: [["rebuild", "after a doubt; a missing catalogue is rebuilt without asking"]],
  async run(_args, context) {
    const result = await context.withStore({ create: false }, (store) => store.rebuild());
    context.print(
      context.json
        ? JSON.stringify(result)
        : `Rebuilt the catalogue from ${result.nodes} nodes and ${result.runs} runs.`,
    );
  },
};

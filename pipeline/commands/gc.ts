/**
 * `gc`: removes what no kept run refers to.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { UserError } from "../errors.ts";

/** Collects garbage. */
export const gc: Command = {
  name: "gc",
  summary: "Say what no recent run refers to; with --yes, remove it",
  examples: [
    ["gc", "only says what it would remove"],
    ["gc --keep 1 --yes", "keeps what the last successful run used"],
  ],
  options: {
    keep: {
      type: "number",
      default: 5,
      requiresArg: true,
      describe: "How many successful runs to keep, counted from the last",
    },
    yes: { type: "boolean", describe: "Remove it" },
  },
  async run(args, context) {
    const keep = args["keep"] as number;
    if (!(Number.isSafeInteger(keep) && keep >= 1)) {
      throw new UserError(`--keep is ${keep}; expected an integer of at least 1.`);
    }
    const removed = args["yes"] === true;
    const result = await context.withStore({ create: false, look: !removed }, async (store) => {
      const { collectGarbage } = await import("../store/maintenance.ts");
      return await collectGarbage(store, { keep, remove: removed });
    });
    if (context.json) return context.print(JSON.stringify({ removed, ...result }));
    const { formatBytes } = await import("../store/files.ts");
    for (const node of result.nodes) context.print(`${node.node} ${node.key.slice(0, 12)}…`);
    if (result.nodes.length + result.objects + result.runs.length === 0) {
      return context.print("There is nothing to remove.");
    }
    context.print(
      `${
        removed ? "Removed" : "Would remove"
      } ${result.nodes.length} nodes, ${result.objects} objects ` +
        `(${formatBytes(result.bytes)}) and ${result.runs.length} runs.` +
        (removed ? "" : " Say --yes to do so."),
    );
  },
};

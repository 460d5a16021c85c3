/**
 * `clean`: forgets unfinished work, or everything.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { UserError } from "../errors.ts";

/** Removes unfinished work. */
export const clean: Command = {
  name: "clean",
  summary: "Remove what unfinished nodes keep; with --all --yes, the whole store",
  examples: [
    ["clean", "partial downloads and checkpoints of nodes that never finished"],
    ["clean --all --yes", "everything that was ever published"],
  ],
  options: {
    all: { type: "boolean", describe: "The whole store: objects, manifests, catalogue" },
    yes: { type: "boolean", describe: "Needed with --all" },
  },
  async run(args, context) {
    const all = args["all"] === true;
    if (all && args["yes"] !== true) {
      throw new UserError(
        `--all removes everything in ${context.storeDir}; say --yes to do so.`,
      );
    }
    const removed = await context.withStore({ create: false }, async (store) => {
      const { cleanStore } = await import("../store/maintenance.ts");
      return await cleanStore(store, { all });
    });
    if (context.json) return context.print(JSON.stringify({ removed }));
    context.print(
      removed.length === 0
        ? "There is nothing to remove."
        : `Removed ${removed.map((path) => `${path}`).join(", ")}.`,
    );
  },
};

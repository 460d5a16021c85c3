/**
 * `verify`: reads every object and compares it with its name.
 *
 * @module
 */

import type { Command } from "../command.ts";
import { EXIT } from "../errors.ts";

/** Hashes every object. */
export const verify: Command = {
  name: "verify",
  summary: "Hash every object again; what is damaged is taken back, so that its node runs again",
  examples: [["verify", "exit code 1 when something was damaged"]],
  async run(_args, context) {
    const result = await context.withStore({ create: false }, async (store) => {
      const { verifyStore } = await import("../store/maintenance.ts");
      return await verifyStore(store);
    });
    const { objects, bytes, nodes, damaged, unreadable, orphans } = result;
    const clean = damaged.length === 0 && unreadable.length === 0;
    if (context.json) context.print(JSON.stringify({ clean, ...result }));
    else {
      const { formatBytes } = await import("../store/files.ts");
      for (const { node, sha256, problem } of damaged) {
        context.print(`${node}: object ${sha256} is ${problem}; the node will run again`);
      }
      for (const key of unreadable) {
        context.print(`the manifest of ${key} can't be read; its node will run again`);
      }
      context.print(
        `${objects} objects (${formatBytes(bytes)}) of ${nodes} nodes: ` +
          (clean ? "all are what their names say." : `${damaged.length} damaged.`),
      );
      if (orphans > 0) context.print(`${orphans} objects belong to no node; \`gc\` removes them.`);
    }
    return clean ? EXIT.ok : EXIT.failed;
  },
};

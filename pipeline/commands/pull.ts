/**
 * `pull`: fetches nodes from a remote store.
 *
 * @module
 */

import { type Command, EXPERIMENT_OPTIONS, INPUT_OPTIONS, listArgument } from "../command.ts";
import { EXIT } from "../errors.ts";
import { foldNodes } from "../graph/fold.ts";
import type { Graph, GraphNode } from "../graph/graph.ts";
import { REMOTE_OPTION, requireRemote } from "./remote_option.ts";

const KEY = /^[0-9a-f]{64}$/;

/** Fetches what a configuration would need. */
export const pull: Command = {
  name: "pull [nodes..]",
  summary: "Fetch nodes of the configuration from a remote store, and run nothing",
  examples: [
    ["pull --remote s3://models/team", "all that the default configuration needs"],
    ["pull 'train[base,seed=1]'", "one node, from the store that ETHOS_REMOTE names"],
  ],
  positionals: {
    nodes: {
      type: "string",
      array: true,
      describe: "Stages or nodes of the configuration, or whole keys; every node unless given",
    },
  },
  options: { ...EXPERIMENT_OPTIONS, ...INPUT_OPTIONS, ...REMOTE_OPTION },
  async run(args, context) {
    const remote = await requireRemote(args);
    const given = listArgument(args, "nodes");
    const keys = given.filter((name) => KEY.test(name));
    const names = given.filter((name) => !KEY.test(name));
    let graph: Graph | undefined;
    let wanted: ReadonlySet<GraphNode> = new Set();
    if (given.length === 0 || names.length > 0) {
      ({ graph } = await context.experiment(args));
      const selected = given.length === 0 ? graph.nodes : names.flatMap((n) => graph!.select(n));
      wanted = new Set(selected);
      graph = graph.restrict(wanted);
    }
    return await context.withStore({ create: true }, async (store) => {
      const [{ createDisplay }, { interruptible }, { Puller }] = await Promise.all([
        import("../terminal/progress.ts"),
        import("../run/interrupt.ts"),
        import("../run/pull.ts"),
      ]);
      const display = await createDisplay();
      using interrupt = interruptible((line) => display.line(line));
      using _ = { [Symbol.dispose]: () => display.stop() };
      const { signal } = interrupt;
      const puller = new Puller(remote, { store, display, signal });
      try {
        for (const key of keys) await puller.pullKey(key);
        if (graph !== undefined) await puller.pullGraph(graph, wanted, context.program.root);
      } catch (error) {
        if (signal.aborted) return interrupt.exitCode;
        throw error;
      }
      display.stop();
      const { pulled, here, missing, failed } = puller;
      for (const { error } of failed) context.warn(`error: ${error}`);
      const bytes = pulled.reduce((sum, node) => sum + node.bytes, 0);
      if (context.json) {
        const value = { remote: remote.name, pulled, here, missing, failed, bytes };
        context.print(JSON.stringify(value));
      } else {
        const { formatBytes } = await import("../store/files.ts");
        for (const { node, key } of pulled) context.print(`pulled ${node} ${key.slice(0, 12)}…`);
        const lines = missing.map((node) => (
          { node, stage: node.split("[")[0]!, state: "not there", note: "" }
        ));
        for (const { node } of foldNodes(lines)) context.print(`not there ${node}`);
        context.print(
          `Pulled ${pulled.length} nodes (${formatBytes(bytes)}) from ${remote.name}; ` +
            `${here} were here, ${missing.length} are not there.`,
        );
      }
      const lacking = given.length > 0 && missing.length > 0;
      return failed.length > 0 || lacking ? EXIT.failed : EXIT.ok;
    });
  },
};

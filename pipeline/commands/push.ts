/**
 * `push`: sends nodes to a remote store.
 *
 * @module
 */

import { assertStore, type Command, listArgument, stringArgument } from "../command.ts";
import { EXIT, UserError } from "../errors.ts";
import type { NodeRecord } from "../store/records/records.ts";
import type { Store } from "../store/store.ts";
import { REMOTE_OPTION, requireRemote } from "./remote_option.ts";
import { findRun } from "./runs.ts";

/** Sends what the remote lacks. */
export const push: Command = {
  name: "push [nodes..]",
  summary: "Send nodes that a remote store lacks, so that others need not compute them",
  examples: [
    ["push --remote s3://models/team", "every node of the store"],
    ["push --run latest", "the nodes of the last run, to the store that ETHOS_REMOTE names"],
    ["push train 'evaluate[base,seed=1]'", "the nodes of a stage, and one node"],
  ],
  positionals: {
    nodes: {
      type: "string",
      array: true,
      describe: "Stages, nodes or keys (or the start of one); every node unless given",
    },
  },
  options: {
    ...REMOTE_OPTION,
    run: { type: "string", requiresArg: true, describe: "Only nodes of this run, or of `latest`" },
    force: { type: "boolean", describe: "Send all bytes again, also those that the remote has" },
  },
  async run(args, context) {
    const remote = await requireRemote(args);
    await assertStore(context);
    const run = stringArgument(args, "run");
    const wanted = listArgument(args, "nodes");
    const force = args["force"] === true;
    return await context.withStore({ create: false, look: true }, async (store) => {
      const [{ createDisplay }, { interruptible }] = await Promise.all([
        import("../terminal/progress.ts"),
        import("../run/interrupt.ts"),
      ]);
      const records = await select(store, { run, wanted });
      const display = await createDisplay();
      using interrupt = interruptible((line) => display.line(line));
      using _ = { [Symbol.dispose]: () => display.stop() };
      const { signal } = interrupt;
      const sent: { node: string; key: string; bytes: number }[] = [];
      const failed: { node: string; key: string; error: string }[] = [];
      const { RemoteError } = await import("../remote/error.ts");
      let there = 0;
      for (const record of records) {
        const { node, key } = record;
        try {
          const result = await remote.push(record, { store, signal, display, force });
          if (result === undefined) there++;
          else sent.push({ node, key, ...result });
        } catch (error) {
          if (signal.aborted) return interrupt.exitCode;
          if (!(error instanceof RemoteError) || error.fault !== "damaged") throw error;
          failed.push({ node, key, error: error.message });
          context.warn(`error: ${error.message}`);
        }
      }
      display.stop();
      const bytes = sent.reduce((sum, node) => sum + node.bytes, 0);
      if (context.json) {
        context.print(JSON.stringify({ remote: remote.name, sent, there, failed, bytes }));
      } else {
        const { formatBytes } = await import("../store/files.ts");
        for (const { node, key } of sent) context.print(`sent ${node} ${key.slice(0, 12)}…`);
        context.print(
          `Sent ${sent.length} of ${records.length} nodes (${formatBytes(bytes)}) to ` +
            `${remote.name}; it had ${there}.`,
        );
      }
      return failed.length > 0 ? EXIT.failed : EXIT.ok;
    });
  },
};

/** The published nodes that are meant, each key once, in the order in which they were made. */
async function select(
  store: Store,
  { run, wanted }: { run: string | undefined; wanted: readonly string[] },
): Promise<NodeRecord[]> {
  const records: NodeRecord[] = [];
  const ofRun = run === undefined ? undefined : await keysOf(store, run);
  for (const key of await store.records.nodeKeys()) {
    if (ofRun !== undefined && !ofRun.has(key)) continue;
    const record = await store.records.readNode(key);
    if (record !== undefined) records.push(record);
  }
  const names = ({ node, stage, key }: NodeRecord, name: string) =>
    name === node || name === stage || (/^[0-9a-f]{8,}$/.test(name) && key.startsWith(name));
  for (const name of wanted) {
    if (records.some((record) => names(record, name))) continue;
    throw new UserError(
      `${run === undefined ? "The store" : `Run ${run}`} has no stage, node or key ` +
        `${JSON.stringify(name)}; a key is given with at least eight digits.`,
    );
  }
  return records
    .filter((record) => wanted.length === 0 || wanted.some((name) => names(record, name)))
    .sort((a, b) => a.provenance.finished_at < b.provenance.finished_at ? -1 : 1);
}

async function keysOf(store: Store, given: string): Promise<ReadonlySet<string>> {
  const run = await findRun(store, given);
  const found = (await store.records.readRuns()).find((record) => record.run === run);
  return new Set(found?.nodes.flatMap(({ key }) => key === undefined ? [] : [key]));
}

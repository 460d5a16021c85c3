/**
 * `tensorboard`: event files of metrics, for TensorBoard and whatever reads its files.
 *
 * @module
 */

import { assertStore, type Command, stringArgument } from "../command.ts";
import { explain, systemCode, UserError } from "../errors.ts";

/** Writes event files of a run's metrics. */
export const tensorboard: Command = {
  name: "tensorboard",
  summary: "Write a run's metrics as TensorBoard event files, a folder a node",
  examples: [
    ["tensorboard --out events", "then: tensorboard --logdir events"],
    ["tensorboard --run previous --out events", "of the run before"],
  ],
  options: {
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to write to" },
    run: {
      type: "string",
      requiresArg: true,
      default: "latest",
      describe: "Name of the run or the start of it, latest or previous",
    },
  },
  async run(args, context) {
    const [{ resolve }, { findRun }, { eventFolder, MetricsFollower }] = await Promise.all([
      import("@std/path"),
      import("./runs.ts"),
      import("../tensorboard/follow.ts"),
    ]);
    await assertStore(context);
    const out = resolve(stringArgument(args, "out")!);
    const folders = await context.withStore({ create: false, look: true }, async (store) => {
      const run = await findRun(store, stringArgument(args, "run")!);
      const record = (await store.records.readRuns()).find((record) => record.run === run);
      const follower = new MetricsFollower(store, { out });
      const written: string[] = [];
      try {
        for (const { node, key, state } of record?.nodes ?? []) {
          if (key === undefined || (state !== "done" && state !== "cached")) continue;
          const published = await store.records.readNode(key);
          if (published && await follower.publish({ ...published, node })) {
            written.push(eventFolder(out, node));
          }
        }
      } catch (error) {
        if (systemCode(error) === undefined) throw error;
        throw new UserError(explain(error, `writing events to ${out}`), { exitCode: 1 });
      }
      if (written.length === 0) {
        throw new UserError(`The run ${run} has no finished node with metrics.`, { exitCode: 1 });
      }
      return written;
    });
    if (context.json) return context.print(JSON.stringify({ folders }));
    for (const folder of folders) context.print(folder);
  },
};

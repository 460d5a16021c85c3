/**
 * `experts` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import {
  CHECKPOINT_OPTIONS,
  checkpointArguments,
  LARGEST_SEED,
  PRECISION_OPTION,
  wholeArgument,
} from "../model/checkpoint_options.ts";

const number = (describe: string, value?: number) => ({
  type: "number" as const,
  requiresArg: true,
  describe,
  ...(value !== undefined && { default: value }),
});

/** Looks inside a model with experts. */
export const expertsCommand: Command = {
  name: "experts",
  summary: "Look inside a model with experts: trace, contexts, clusters, maps, ablations, report",
  examples: [
    ["experts --checkpoint 'train[base,seed=1]' --out experts", "on the node's held-out text"],
    [
      "experts --checkpoint exported --files 'books/*.txt' --tokens 65536 --out experts",
      "on files of your own",
    ],
  ],
  options: {
    ...CHECKPOINT_OPTIONS,
    out: { type: "string", requiresArg: true, demandOption: true, describe: "Folder to make" },
    files: {
      type: "string",
      requiresArg: true,
      describe: "Text, as evaluate takes it (default: the validation split of the node's dataset)",
    },
    tokens: number("Predictions to trace at most", 16384),
    limit: number("Bytes that the trace may take at most, in MiB", 4096),
    "micro-batch": number("Sequences computed at once", 8),
    "sequence-length": number("Tokens that a prediction can see (default: the training's)"),
    experts: number("Experts of a layer that are shown, by use and by how special they are", 4),
    contexts: number("Contexts of an expert that are shown", 4),
    clusters: number("Clusters of a layer's codes", 6),
    controls: number("Random controls beside each finding", 3),
    "ablation-tokens": number("Predictions that ablations run over at most", 4096),
    seed: number("Chooses clusters, maps and controls", 1),
    ...PRECISION_OPTION,
    ...GPU_OPTION,
  },
  async run(args, { storeDir, json, print, warn }) {
    const { exploreExperts, makeFolder } = await import("../../experts/explore.ts");
    const { describeFindings, writeFindings } = await import("../../experts/report.ts");
    const files = stringArgument(args, "files");
    const sequence_length = wholeArgument(args, "sequence-length", 1, 131072);
    const options = {
      ...checkpointArguments(args),
      storeDir,
      ...(files !== undefined && { files }),
      ...(sequence_length !== undefined && { sequence_length }),
      tokens: wholeArgument(args, "tokens", 1, 2 ** 24)!,
      limit_bytes: 2 ** 20 * wholeArgument(args, "limit", 1, 2 ** 30)!,
      micro_batch: wholeArgument(args, "micro-batch", 1, 65536)!,
      experts: wholeArgument(args, "experts", 1, 100)!,
      contexts: wholeArgument(args, "contexts", 1, 100)!,
      clusters: wholeArgument(args, "clusters", 2, 256)!,
      controls: wholeArgument(args, "controls", 1, 100)!,
      ablation_tokens: wholeArgument(args, "ablation-tokens", 1, 2 ** 24)!,
      seed: wholeArgument(args, "seed", 0, LARGEST_SEED)!,
      precision: stringArgument(args, "precision") as "f32" | "mixed",
      out: stringArgument(args, "out") ?? "",
      gpu: () => commandGpu(args),
      progress: (line: string) => !json && Deno.stderr.isTerminal() && warn(line),
      warn,
    };
    const { findings, folder } = await makeFolder(options.out, async (folder) => {
      const explored = await exploreExperts(options, folder);
      await writeFindings(explored, folder);
      return explored;
    });
    print(
      json ? JSON.stringify({ ...findings, folder }) : `${describeFindings(findings)}\n\n${folder}`,
    );
  },
};

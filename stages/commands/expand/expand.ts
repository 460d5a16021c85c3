/**
 * `expand`: the nodes of Sparse Expansion for one model and one way to expand it, run in the store: what is there is found, and what was interrupted goes on.
 *
 * @module
 */

import { resolve } from "@std/path";
import { ExpandedCheckpoint } from "../../../model/sparse/files/checkpoint.ts";
import type { CommandContext } from "../../../pipeline/command.ts";
import { ConfigurationError } from "../../../pipeline/config/config.ts";
import { explainIssues } from "../../../pipeline/config/explain.ts";
import { EXIT, UserError } from "../../../pipeline/errors.ts";
import { buildGraph } from "../../../pipeline/graph/graph.ts";
import { interruptible } from "../../../pipeline/run/interrupt.ts";
import { runPipeline, type RunSummary } from "../../../pipeline/run/run.ts";
import type { JsonValue } from "../../../pipeline/stage.ts";
import type { Store } from "../../../pipeline/store/store.ts";
import { createDisplay } from "../../../pipeline/terminal/progress.ts";
import { formatTable } from "../../../pipeline/terminal/table.ts";
import { type Dataset, DATASETS } from "../../calibrate/config.ts";
import { EXPANDED_OUTPUT, type ExpansionResult, expansionSchema } from "../../expand/result.ts";
import { perplexityText } from "../../expansion_report/cells.ts";
import { parseOutput } from "../../parse_output.ts";
import { type PerplexityResult, perplexitySchema } from "../../perplexity/result.ts";
import {
  SPARSE_EXPANSION,
  type SparseExpansionConfiguration,
  sparseExpansionSchema,
} from "../../sparse_expansion/config.ts";
import { type LoadedSparseExpansion, planSparseExpansion } from "../../sparse_expansion/load.ts";

/** Names of the options that hold numbers. */
export type NumberOption =
  | "clusters"
  | "bits"
  | "samples"
  | "seqlen"
  | "windows"
  | "pca-factor"
  | "restarts"
  | "block-size"
  | "percdamp";

/** The options of the command, as they were typed. */
export interface ExpandOptions {
  readonly numbers: Readonly<Record<NumberOption, number | undefined>>;
  readonly model: string;
  readonly revision: string | undefined;
  readonly sparsity: string;
  readonly symmetric: boolean;
  readonly method: "sparsegpt" | "magnitude" | undefined;
  readonly pca: boolean;
  readonly dataset: string;
  readonly evaluate: string | undefined;
  readonly seed: unknown;
  readonly verbose: boolean;
  readonly out: string | undefined;
}

/** The options that keys of the configuration come from. */
const OPTION_OF: readonly (readonly [key: string, option: string])[] = [
  ["model.name", "--model"],
  ["model.revision", "--revision"],
  ["pruning.sparsity", "--sparsity"],
  ["pruning.bits", "--bits"],
  ["pruning.symmetric", "--symmetric"],
  ["pruning.block", "--block-size"],
  ["pruning.damping", "--percdamp"],
  ["expansion.clusters", "--clusters"],
  ["expansion.pca_factor", "--pca-factor"],
  ["expansion.restarts", "--restarts"],
  ["calibration.samples", "--samples"],
  ["calibration.length", "--seqlen"],
  ["evaluation.length", "--seqlen"],
  ["evaluation.windows", "--windows"],
  ["calibration.files.glob", "--dataset"],
  ["evaluation.files.glob", "--evaluate"],
  ["seed", "--seed"],
];

/** A key as the user knows it. */
function optionOf(path: string): string {
  return OPTION_OF.find(([key]) => path === key || path.startsWith(`${key}.`))?.[1] ?? path;
}

/** The configuration that the options say. @throws {UserError} Which option is wrong. */
export function configurationOf(options: ExpandOptions): SparseExpansionConfiguration {
  const { numbers, dataset, evaluate, sparsity } = options;
  const text = (value: string) =>
    DATASETS.includes(value as Dataset) && value !== "files"
      ? { dataset: value }
      : { dataset: "files", files: { glob: value } };
  const calibration = text(dataset);
  if (evaluate === undefined && calibration.dataset === "files") {
    throw new UserError(
      `--dataset is ${dataset}, files that nothing is held out of; give --evaluate, too.`,
    );
  }
  const number = Number(sparsity);
  const value = {
    name: "expand",
    experiment: SPARSE_EXPANSION,
    seed: options.seed,
    model: { name: options.model, revision: options.revision },
    calibration: { ...calibration, samples: numbers.samples, length: numbers.seqlen },
    evaluation: {
      ...text(evaluate ?? dataset),
      windows: numbers.windows,
      length: numbers.seqlen,
    },
    expansion: {
      clusters: options.method === "magnitude" ? numbers.clusters ?? 1 : numbers.clusters,
      pca: options.pca,
      pca_factor: numbers["pca-factor"],
      restarts: numbers.restarts,
    },
    pruning: {
      sparsity: sparsity.trim() === "" || Number.isNaN(number) ? sparsity : number,
      bits: numbers.bits,
      symmetric: options.symmetric,
      block: numbers["block-size"],
      damping: numbers.percdamp,
    },
    grid: { methods: [options.method ?? "sparsegpt"] },
  };
  if (options.method === "magnitude" && value.expansion.clusters !== 1) {
    throw new UserError(
      `--clusters is ${value.expansion.clusters}; expected 1 with --method magnitude, which looks at no inputs.`,
    );
  }
  const parsed = sparseExpansionSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = explainIssues(parsed.error.issues, { schema: sparseExpansionSchema, value });
  throw new UserError(
    problems.map(({ path, message }) => `${optionOf(path.join("."))}: ${message}`).join("\n"),
  );
}

/** Refuses a folder that holds something else. */
async function requireFree(out: string): Promise<void> {
  const folder = resolve(out);
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(folder), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw new UserError(`--out ${out} is no folder; give a name that is free.`, { cause: error });
  }
  if (names.length === 0 || await ExpandedCheckpoint.isIn(folder).catch(() => false)) return;
  throw new UserError(`--out ${out} holds files of something else; give a name that is free.`);
}

/**
 * Runs the command.
 *
 * @returns The exit code.
 * @throws {UserError} If an option is wrong, before anything is started.
 */
export async function expandModel(
  options: ExpandOptions,
  context: CommandContext,
): Promise<number> {
  const configuration = configurationOf(options);
  if (options.out !== undefined) await requireFree(options.out);
  const plan = await planned(configuration, context);
  const [expand] = plan.expand;
  const results = options.out === undefined || expand === undefined
    ? []
    : [{ node: expand, output: EXPANDED_OUTPUT, to: resolve(options.out) }];
  const graph = buildGraph([...plan.expand, ...plan.perplexity], results);
  return await context.withStore({ create: true }, async (store) => {
    await plan.remember?.(store.dir);
    const display = await createDisplay();
    using interrupt = interruptible((line) => display.line(line));
    // Whatever happens, no bar stays behind.
    using _ = { [Symbol.dispose]: () => display.stop() };
    const summary = await runPipeline({
      graph,
      store,
      root: context.program.root,
      command: context.command,
      configPath: plan.configPath,
      configuration: plan.configuration,
      display,
      signal: interrupt.signal,
      debug: context.debug,
    });
    display.stop();
    if (summary.exitCode === EXIT.ok) await tell(summary, { store, options, context });
    else complain(summary, context);
    return summary.exitCode === EXIT.interrupted ? interrupt.exitCode : summary.exitCode;
  });
}

/** The nodes. Problems are told by their options. */
async function planned(
  configuration: SparseExpansionConfiguration,
  { storeDir, warn }: CommandContext,
): Promise<LoadedSparseExpansion> {
  try {
    return await planSparseExpansion(configuration, { config: "expand", set: [], storeDir, warn });
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    const lines = error.problems.map(({ path, message }) => `${optionOf(path)}: ${message}.`);
    throw new UserError(lines.join("\n"), { cause: error });
  }
}

function complain(summary: RunSummary, { warn }: CommandContext): void {
  for (const { node, state, error } of summary.nodes) {
    if (error !== undefined) warn(`${state} ${node}: ${error}`);
  }
  for (const problem of summary.problems) warn(`error: ${problem}`);
}

/** The command's findings. */
interface Told {
  readonly store: Store;
  readonly options: ExpandOptions;
  readonly context: CommandContext;
}

async function tell(summary: RunSummary, { store, options, context }: Told): Promise<void> {
  const output = async (stage: string, which: number, name: string): Promise<JsonValue> => {
    const node = summary.nodes.filter((node) => node.stage === stage)[which];
    const record = node?.key === undefined ? undefined : await store.records.readNode(node.key);
    const found = record?.outputs[name];
    if (found?.kind !== "json") throw new Error(`${stage} has not published ${name}`);
    return found.value;
  };
  const perplexity = async (which: number) =>
    parseOutput(await output("perplexity", which, "perplexity"), {
      schema: perplexitySchema,
      what: "perplexity",
    });
  const [dense, expanded] = [await perplexity(0), await perplexity(1)];
  const expansion = parseOutput(await output("expand", 0, "expansion"), {
    schema: expansionSchema,
    what: "expansion",
  });
  const { print, json } = context;
  if (json) {
    const out = options.out === undefined ? null : resolve(options.out);
    return print(JSON.stringify({ run: summary.run, dense, expanded, expansion, out }));
  }
  if (options.verbose) print(blocksTable(expansion));
  print(comparison(dense, expanded));
  for (const folder of summary.results) print(`The expanded model is in ${folder}`);
}

function comparison(dense: PerplexityResult, expanded: PerplexityResult): string {
  const megabytes = (bits: number) => `${(bits / 8e6).toFixed(2)} MB`;
  const row = (name: string, { perplexity, mlp }: PerplexityResult) => [
    name,
    perplexityText(perplexity),
    megabytes(mlp.stored_bits),
    `${(mlp.stored_bits / dense.mlp.stored_bits).toFixed(3)} ×`,
    Math.round(mlp.multiply_adds).toLocaleString("en"),
    `${(mlp.multiply_adds / dense.mlp.multiply_adds).toFixed(3)} ×`,
  ];
  return formatTable(
    ["", "perplexity", "MLPs stored", "of dense", "multiply-adds a token", "of dense"],
    [row("dense", dense), row("expanded", expanded)],
  );
}

/** Clusters and losses of every layer. */
function blocksTable({ blocks }: ExpansionResult): string {
  const rows = blocks.flatMap((block, number) =>
    (["in", "mid"] as const).flatMap((site) => {
      const { sizes, layers } = block[site];
      return Object.entries(layers).map(([layer, { losses }]) => [
        String(number),
        site,
        layer,
        String(sizes.length),
        `${Math.min(...sizes)} to ${Math.max(...sizes)}`,
        (losses.reduce((sum, loss) => sum + loss, 0) / losses.length).toPrecision(4),
      ]);
    })
  );
  return formatTable(["block", "site", "layer", "clusters", "rows of one", "mean loss"], rows);
}

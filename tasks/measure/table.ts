/** What `deno task measure` kept, as one Markdown table: a column for each GPU and runtime. */

import { gfmTableToMarkdown } from "mdast-util-gfm-table";
import { toMarkdown } from "mdast-util-to-markdown";
import { join } from "@std/path";
import { z } from "zod";
import type { Runtime } from "../../model/gpu/device.ts";
import { messageOf, UserError } from "../../pipeline/errors.ts";
import { readTextOrUndefined } from "../../pipeline/store/files.ts";
import { RUNTIMES } from "../../stages/commands/gpu_option.ts";
import {
  showBytes,
  showCount,
  showSeconds,
  showShare,
  threeDigits,
} from "../../stages/commands/speed/quantities.ts";
import { tableNode } from "../../stages/report/document.ts";
import { BENCH_NAMES } from "./steps.ts";

const measuredOn = z.looseObject({ adapter: z.string() });
const entry = z.looseObject({
  id: z.string(),
  median: z.number(),
  tokens_per_second: z.number().optional(),
  tflop_per_second: z.number().optional(),
  gb_per_second: z.number().optional(),
  peak_bytes: z.number().optional(),
});
const benchSchema = z.looseObject({
  format: z.literal("ethos-bench"),
  measured_on: measuredOn,
  train: z.looseObject({ micro_batch: z.int(), sequence_length: z.int() }),
  entries: z.array(entry),
});
const profileSchema = z.looseObject({
  measured_on: measuredOn,
  mfu: z.number().nullable(),
  step: z.looseObject({ waiting: z.number() }),
});

type Entry = z.infer<typeof entry>;

/** Everything that was measured on one runtime of one GPU. */
export interface Column {
  readonly adapter: string;
  readonly runtime: Runtime;
  /** `8 × 4,096`: sequences of a step, and their tokens. */
  readonly batch: string;
  readonly entries: readonly Entry[];
  readonly profile?: z.infer<typeof profileSchema>;
}

/**
 * Reads a folder of results; nothing where there are none.
 *
 * @throws {UserError} If a file is something else.
 */
export async function readColumns(folder: string): Promise<Column[]> {
  const columns: Column[] = [];
  for (const runtime of RUNTIMES) {
    const entries: Entry[] = [];
    const adapters: string[] = [];
    let batch = "";
    for (const name of BENCH_NAMES) {
      const file = await readJson(join(folder, `${runtime}-${name}.json`), benchSchema);
      if (!file) continue;
      adapters.push(file.measured_on.adapter);
      batch = `${file.train.micro_batch} × ${showCount(file.train.sequence_length)}`;
      entries.push(...file.entries);
    }
    const profile = await readJson(join(folder, `${runtime}-profile.json`), profileSchema);
    if (profile) adapters.push(profile.measured_on.adapter);
    const [adapter] = adapters;
    if (adapter === undefined) continue;
    columns.push({
      adapter,
      runtime,
      batch,
      entries,
      ...profile && { profile },
    });
  }
  return columns.map((column) => ({ ...column, adapter: nameOf(columns) }));
}

/** What was measured in one place is of one GPU, and one of its runtimes may not know how it is called. */
function nameOf(columns: readonly Column[]): string {
  const names = columns.map(({ adapter }) => adapter);
  return names.find((name) => !name.includes(":")) ?? names[0]!;
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await readTextOrUndefined(path);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    const why = cause instanceof z.ZodError
      ? `${cause.issues[0]!.path.join(".")}: ${cause.issues[0]!.message}`
      : messageOf(cause);
    throw new UserError(`${path} is not what bench and profile write: ${why}.`, { cause });
  }
}

/** The cells of one row, and what it is called. */
interface Row {
  readonly title: string;
  cell(column: Column): string | undefined;
}

/** Renders the table; a cell that was not measured is a dash, a row that nobody measured is left out. */
export function renderTable(columns: readonly Column[]): string {
  const batch = columns.find(({ batch }) => batch !== "")?.batch ?? "";
  const rows = rowsOf(batch)
    .map(({ title, cell }) => [title, ...columns.map((column) => cell(column) ?? "–")])
    .filter(([, ...cells]) => cells.some((text) => text !== "–"));
  const head = columns.map(({ adapter, runtime }) =>
    `${adapter}, ${runtime === "deno" ? "Deno" : "Dawn"}`
  );
  const table = tableNode({ header: ["", ...head], rows, numbersFrom: 1 });
  return toMarkdown(table, { extensions: [gfmTableToMarkdown()] });
}

function rowsOf(batch: string): Row[] {
  return [
    { title: `training, ${batch} tokens a step`, cell: speedOf(/^step\.mixed\.none\./) },
    { title: "… experts recomputed", cell: speedOf(/^step\.mixed\.experts\./) },
    { title: "… everything recomputed", cell: speedOf(/^step\.mixed\.full\./) },
    { title: "… in f32", cell: speedOf(/^step\.f32\.none\./) },
    { title: "of the fastest product's speed", cell: ({ profile }) => shareOf(profile?.mfu) },
    { title: "the GPU waits for the host", cell: ({ profile }) => shareOf(profile?.step.waiting) },
    { title: "device memory", cell: memoryOf(/^step\.mixed\.none\./) },
    { title: "… everything recomputed", cell: memoryOf(/^step\.mixed\.full\./) },
    { title: "fewest to most experts a layer, fused", cell: scalingOf("fused") },
    { title: "… as the rule says", cell: scalingOf("auto") },
    { title: "product of squares, f32, nn / nt / tn", cell: productsOf("f32") },
    { title: "… f16", cell: productsOf("f16") },
    { title: "experts of a layer, naive, without / with backward", cell: expertsOf("naive") },
    { title: "… fused", cell: expertsOf("fused") },
    { title: "… … times as fast", cell: ratioOf("fused", "median") },
    { title: "… … times less memory", cell: ratioOf("fused", "peak_bytes") },
    { title: "… every expert generated once", cell: expertsOf("materialized") },
    { title: "… … times as fast", cell: ratioOf("materialized", "median") },
    { title: "copy", cell: copyOf },
    { title: "a prompt", cell: promptOf },
    { title: "decoding after it, a sequence", cell: decodeOf },
  ];
}

const shareOf = (share: number | null | undefined) =>
  typeof share === "number" ? showShare(share) : undefined;

const speedOf = (id: RegExp) => ({ entries }: Column) => {
  const speed = entries.find((entry) => id.test(entry.id))?.tokens_per_second;
  return speed === undefined ? undefined : `${showCount(speed)} tokens/s`;
};

const memoryOf = (id: RegExp) => ({ entries }: Column) => {
  const bytes = entries.find((entry) => id.test(entry.id))?.peak_bytes;
  return bytes === undefined ? undefined : showBytes(bytes);
};

/** Entries by the number in their id, the smallest first. */
function bySize(entries: readonly Entry[], id: RegExp): [size: number, entry: Entry][] {
  return entries
    .flatMap((entry): [number, Entry][] => {
      const size = id.exec(entry.id)?.[1];
      return size === undefined ? [] : [[Number(size), entry]];
    })
    .sort(([a], [b]) => a - b);
}

const scalingOf = (execution: string) => ({ entries }: Column) => {
  const sizes = bySize(entries, new RegExp(`^scaling\\.num_experts\\.(\\d+)\\.${execution}$`));
  const [first, last] = [sizes[0], sizes.at(-1)];
  if (!first || !last || first === last) return undefined;
  const [from, to] = [first[1].tokens_per_second!, last[1].tokens_per_second!];
  const change = 100 * (to / from - 1);
  const sign = change < 0 ? "−" : "+";
  return `${showCount(first[0])} to ${showCount(last[0])}: ${sign}${Math.abs(change).toFixed(0)} %`;
};

const productsOf = (operands: string) => ({ entries }: Column) => {
  const speeds = ["nn", "nt", "tn"].map((kind) => {
    const id = new RegExp(`^gemm\\.square\\.(\\d+)x.*\\.${kind}\\.${operands}$`);
    return bySize(entries, id).at(-1)?.[1].tflop_per_second;
  });
  if (speeds.some((speed) => speed === undefined)) return undefined;
  return `${speeds.map((speed) => threeDigits(speed!)).join(" / ")} TFLOP/s`;
};

/** One expert layer at the most tokens that were measured, without and with the backward pass. */
function passesOf(execution: string, { entries }: Column): [tokens: number, entry: Entry][] {
  return ["forward", "forward_backward"].flatMap((pass) => {
    const id = new RegExp(`^experts\\.${execution}\\.(\\d+)\\.mixed\\.${pass}$`);
    return bySize(entries, id).slice(-1);
  });
}

const expertsOf = (execution: string) => (column: Column) => {
  const passes = passesOf(execution, column);
  if (passes.length < 2) return undefined;
  return `${showCount(passes[0]![0])} tokens: ${
    passes.map(([, { median }]) => showSeconds(median)).join(" / ")
  }`;
};

/** How many times less than naive execution takes. */
const ratioOf = (execution: string, of: "median" | "peak_bytes") => (column: Column) => {
  const [own, naive] = [execution, "naive"].map((execution) => passesOf(execution, column));
  const ratios = own!.map(([tokens, entry], i) => {
    const [others, other] = naive![i] ?? [];
    return tokens === others ? other![of]! / entry[of]! : NaN;
  });
  if (ratios.length < 2 || ratios.some((ratio) => !Number.isFinite(ratio))) return undefined;
  return ratios.map((ratio) => `${ratio.toFixed(1)} ×`).join(" / ");
};

/** The fastest of the copying kernels; what the driver's own copy does is not asked. */
const copyOf = ({ entries }: Column) => {
  const speeds = entries.flatMap(({ id, gb_per_second }) =>
    /^copy\..*(block|spread)$/.test(id) && gb_per_second !== undefined ? [gb_per_second] : []
  );
  return speeds.length === 0 ? undefined : `${threeDigits(Math.max(...speeds) / 1000)} TB/s`;
};

const promptOf = ({ entries }: Column) => {
  const longest = bySize(entries, /^inference\.prefill\.(\d+)\./).at(-1)?.[0];
  const chunks = bySize(
    entries,
    new RegExp(`^inference\\.prefill\\.${longest}\\.(\\d+)\\.mixed$`),
  );
  const [chunk, entry] = chunks.at(-1) ?? [];
  if (!entry || !chunk) return undefined;
  return `${showCount(longest!)} tokens, ${chunk} at a time: ${showSeconds(entry.median)}`;
};

const decodeOf = ({ entries }: Column) => {
  const entry = bySize(entries, /^inference\.decode\.(\d+)\.mixed$/).at(-1)?.[1];
  return entry?.tokens_per_second === undefined
    ? undefined
    : `${showCount(entry.tokens_per_second)} tokens/s`;
};

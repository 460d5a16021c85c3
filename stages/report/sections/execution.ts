/**
 * "Execution": time and memory of the ways to run the experts, measured.
 *
 * @module
 */

import { executionTimings } from "../../benchmark/result.ts";
import { EXECUTION_TITLES, executionFigure } from "../figures/execution.ts";
import { bytesText } from "../figures/series.ts";
import { PAPER } from "../theory/paper.ts";
import { type Block, md, type Section } from "../document.ts";
import { adapterOf, fixed, whole } from "../facts.ts";
import type { SectionContext } from "./context.ts";

/** The section. */
export async function executionSection(context: SectionContext): Promise<Section> {
  const { benchmark } = context.data;
  const points = executionTimings(benchmark?.timings ?? []);
  const figure = executionFigure(points);
  const blocks: Block[] = [];
  if (benchmark === undefined || figure === undefined) {
    blocks.push(md`Execution was not benchmarked in this run.`);
    return { id: "execution", title: "Execution: naive and reordered", blocks };
  }
  const scope = benchmark.result.scope === "layer" ? "one expert layer" : "the whole model";
  const adapter = adapterOf([benchmark]) ?? "an adapter that was not recorded";
  blocks.push(
    md`The same numbers computed three ways: *naive* forms both vectors of every kept expert in memory; *reordered* projects the token once and applies each expert in the hidden width, generating it inside the kernel (the paper's Algorithm 1); *generated once a step* computes every expert of the layer in one matrix product. Timed on ${scope} on ${adapter}, median of ${benchmark.result.repetitions} repetitions.`,
    await context.figures.add(figure, {
      from: [benchmark],
      caption: md`Shorter is better. Memory is what the plan allocates, largest at any moment.`,
    }),
  );
  const naive = (tokens: number) =>
    points.find((p) => p.execution === "naive" && p.tokens === tokens);
  const ratio = (base: number | undefined, value: number) =>
    base === undefined || value === 0 ? "" : `${fixed(base / value, 1)} ×`;
  const seconds = (value: number) => `${Number((1e3 * value).toPrecision(3))} ms`;
  blocks.push(
    {
      kind: "table",
      title: "Time and memory, and naive divided by it",
      header: [
        "execution",
        "tokens",
        "forward",
        "naive / it",
        "forward and backward",
        "naive / it",
        "peak memory",
        "naive / it",
      ],
      rows: points.map((p) => {
        const base = naive(p.tokens);
        return [
          EXECUTION_TITLES[p.execution],
          whole(p.tokens),
          seconds(p.forward_seconds),
          ratio(base?.forward_seconds, p.forward_seconds),
          seconds(p.forward_backward_seconds),
          ratio(base?.forward_backward_seconds, p.forward_backward_seconds),
          bytesText(p.peak_bytes),
          ratio(base?.peak_bytes, p.peak_bytes),
        ];
      }),
      numbersFrom: 1,
    },
    md`The paper claims about ${PAPER.executionGain} times the speed and ${PAPER.executionMemoryGain} times less memory for the reordered execution, at its size on a GH200. **Falsified by:** a ratio below those at that size on a GPU of that class. On a software device, or for a tiny model, the ratios say how this implementation behaves there, not whether the claim holds.`,
  );
  return { id: "execution", title: "Execution: naive and reordered", blocks };
}

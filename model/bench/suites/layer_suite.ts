/**
 * One layer with experts in every execution: with its router (`layer`), and its experts alone (`experts`), which is what the paper
 * compares.
 *
 * @module
 */

import { type LayerPart, type LayerTiming, timeLayer } from "../measure/layer.ts";
import { type BenchCase, expertBench, type SuiteContext } from "./suite.ts";

/** The whole layer. */
export function layerSuite(context: SuiteContext): BenchCase[] {
  return tokenCounts(context).flatMap((tokens) =>
    executionsOf(context).flatMap((execution) =>
      cases(context, { part: "layer", execution, tokens })
    )
  );
}

/** The experts without their router, and the router without them. */
export function expertsSuite(context: SuiteContext): BenchCase[] {
  return tokenCounts(context).flatMap((tokens) => [
    ...executionsOf(context).flatMap((execution) =>
      cases(context, { part: "experts", execution, tokens })
    ),
    ...cases(context, { part: "router", execution: "fused", tokens }),
  ]);
}

function executionsOf({ architecture }: SuiteContext): readonly string[] {
  return expertBench(architecture)?.executions ?? [];
}

/** From fewer to more tokens than those for which generating every expert pays. */
function tokenCounts({ gpu, architecture }: SuiteContext): number[] {
  if (expertBench(architecture) === undefined) return [];
  return gpu.capabilities.software ? [32, 128] : [1024, 2048, 8192, 32768];
}

/** Both passes of one layer; they are measured together, at the first that is asked for. */
function cases(
  context: SuiteContext,
  options: { part: LayerPart; execution: string; tokens: number },
): BenchCase[] {
  const { gpu, architecture, train, timing } = context;
  const { precision } = train;
  const { part, execution, tokens } = options;
  const suite = part === "layer" ? "layer" : "experts";
  let both: Promise<LayerTiming> | undefined;
  const time = () =>
    both ??= timeLayer(gpu, {
      ...options,
      architecture,
      precision,
      warmup: timing.warmup,
      repetitions: timing.repeats,
      ...timing.minimum !== undefined && { minimum: timing.minimum },
      signal: timing.signal,
    });
  const name = part === "router" ? "router" : `${part}.${execution}`;
  return (["forward", "forward_backward"] as const).map((pass): BenchCase => ({
    id: `${name}.${tokens}.${precision}.${pass}`,
    suite,
    params: { part, ...part !== "router" && { execution }, tokens, precision, pass },
    async measure() {
      const { bytes, ...timing } = (await time())[pass];
      return { timing, tokens, peak_bytes: bytes };
    },
  }));
}

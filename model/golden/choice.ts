/**
 * The results of a golden case for the experts that an implementation kept, where halves decided a near tie otherwise: numbers are then compared
 * with those of the float64 reference given the same choice, forward and backward. The tokens that chose otherwise are counted, and how far
 * their experts lie behind the reference's own is measured.
 *
 * @module
 */

import type { FfnSection } from "../section.ts";
import {
  type ChoiceNames,
  choiceNames,
  type GoldenCase,
  type GoldenResults,
  type GoldenTensor,
  passPrefix,
  runGolden,
} from "./golden.ts";
import { referenceGiven } from "./reference.ts";

/** The choices of a layer of a case, one a pass. */
interface Site {
  /** The file's tensor that holds the choice, or a name for it. */
  readonly tensor: string;
  readonly passes: readonly ChoiceNames[];
  /** Tokens of a pass. */
  readonly tokens: number;
  readonly ffn: FfnSection;
}

/** The choice of a layer beside that of the file. */
export interface ChoiceReport {
  readonly tensor: string;
  readonly passes: readonly ChoiceNames[];
  /** Tokens of all passes. */
  readonly all: number;
  /** Those of them whose experts are others than the file's, whatever the order; undefined where the results tell no choice. */
  readonly different: number | undefined;
}

/** The tensors that results are compared with. */
export interface Expectation {
  /** The file's tensors, with the reference's numbers for the same choice where any differs. */
  readonly expected: ReadonlyMap<string, GoldenTensor>;
  /** Choices by layer. */
  readonly choices: readonly ChoiceReport[];
  /** The results of the reference for the same choice. */
  readonly reference: GoldenResults;
  /** The same for another case of the same shapes. */
  again(golden: GoldenCase): Promise<GoldenResults>;
}

/** The layers of a case that choose experts. */
function sitesOf(golden: GoldenCase): Site[] {
  const site = (at: string, tensor: string, ffn: FfnSection, tokens: number): Site => ({
    tensor,
    passes: [choiceNames(at)],
    tokens,
    ffn,
  });
  switch (golden.kind) {
    case "router":
      return ["out.", "eval."].map((at) => site(at, `${at}index`, golden.ethos, golden.tokens));
    case "beam_router":
      return [site("out.", "out.coords", golden.beam, golden.tokens)];
    case "layer":
      return [site("out.", "out.index", golden.ffn, golden.tokens)];
    case "mixture":
      return golden.passes.map(({ prefix, section }) =>
        site(`${prefix}out.`, `${prefix}out.index`, section, golden.tokens)
      );
    case "model": {
      const { config } = golden.architecture;
      if (config.ffn.kind === "dense") return [];
      const first = config.leading_dense.num_layers;
      return Array.from({ length: config.num_layers - first }, (_, i) => ({
        tensor: `kept.layers.${first + i}`,
        passes: Array.from(
          { length: golden.steps + 1 },
          (_, pass) => choiceNames(passPrefix(pass, first + i)),
        ),
        tokens: golden.batch * golden.length,
        ffn: config.ffn,
      }));
    }
    default:
      return [];
  }
}

/** How the kept experts of a token lie one after another: `axes` numbers an expert. */
function layoutOf(ffn: FfnSection): { heads: number; axes: number; experts: number } {
  const heads = "routing_heads" in ffn ? ffn.routing_heads : 1;
  if ("axes" in ffn) return { heads, axes: ffn.axes, experts: ffn.axes * ffn.axis_size };
  return { heads, axes: 1, experts: "num_experts" in ffn ? ffn.num_experts : 0 };
}

/** The kept experts of each token, whatever their order within a head; undefined where numbers are no choice of experts. */
function sets(kept: ArrayLike<number>, { tokens, ffn }: Site): string[] | undefined {
  const { heads, axes, experts } = layoutOf(ffn);
  const width = kept.length / (tokens * heads);
  const all: string[] = [];
  for (let t = 0; t < tokens; t++) {
    const token: string[] = [];
    for (let head = 0; head < heads; head++) {
      const own = Array.from({ length: width }, (_, j) => kept[(t * heads + head) * width + j]!);
      const right = axes === 1
        // Only the experts after the first may be none.
        ? own.every((e, j) => Number.isInteger(e) && e >= 0 && e <= experts - (j === 0 ? 1 : 0))
        : own.every((e, j) =>
          Number.isInteger(e) && Math.floor(e * axes / experts) === j % axes && e >= 0
        );
      if (!right) return undefined;
      const each = Array.from(
        { length: width / axes },
        (_, j) => own.slice(j * axes, (j + 1) * axes).join(),
      );
      token.push(each.sort().join(" "));
    }
    all.push(token.join(";"));
  }
  return all;
}

/** The reference's results where it chooses by itself, by case: each execution on the GPU is compared with them. */
const free = new WeakMap<GoldenCase, GoldenResults>();

async function freeResults(golden: GoldenCase): Promise<GoldenResults> {
  const known = free.get(golden);
  if (known) return known;
  const results = await runGolden(referenceGiven(), golden);
  free.set(golden, results);
  return results;
}

/** The tensors that the results of a case are compared with: those of the same choice. */
export async function givenChoice(
  golden: GoldenCase,
  results: GoldenResults,
): Promise<Expectation> {
  const own = await freeResults(golden);
  let told = true;
  let same = true;
  const choices = sitesOf(golden).map((site): ChoiceReport => {
    let different: number | undefined = 0;
    for (const { kept } of site.passes) {
      const [mine, theirs] = [own.get(kept)!, results.get(kept)];
      const other = theirs?.length === mine.length ? sets(theirs, site) : undefined;
      if (!other || !theirs) {
        told = false;
        different = undefined;
        break;
      }
      sets(mine, site)!.forEach((set, t) => {
        if (set !== other[t]) different!++;
      });
      same &&= Array.from(theirs).every((e, i) => e === mine[i]);
    }
    const { tensor, passes, tokens } = site;
    return { tensor, passes, all: tokens * passes.length, different };
  });
  // Results that tell no choice are compared with those of the file's.
  const given = told && !same ? results : undefined;
  const again = async (golden: GoldenCase) => await runGolden(referenceGiven(given ?? own), golden);
  const reference = given ? await again(golden) : own;
  const expected = given
    ? new Map(Array.from(golden.expected, ([name, tensor]) => {
      const data = reference.get(name);
      return [name, data ? { ...tensor, data: Float64Array.from(data) } : tensor];
    }))
    : golden.expected;
  return { expected, choices, reference, again };
}

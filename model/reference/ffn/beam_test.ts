import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { parseSafetensors, toFloat64 } from "../../checkpoint/safetensors.ts";
import { relativeError } from "../../ops/testing.ts";
import { matrix } from "../matrix.ts";
import { normals } from "../testing.ts";
import { beamCodes, beamRoute, searchBeams } from "./beam.ts";

/** Every path with its sum, best first; of equal sums the lower path. */
function exhaustive(axes: readonly Float64Array[]): { path: number[]; sum: number }[] {
  let all: { path: number[]; sum: number }[] = [{ path: [], sum: 0 }];
  for (const values of axes) {
    all = all.flatMap(({ path, sum }) =>
      Array.from(values, (value, i) => ({ path: [...path, i], sum: sum + value }))
    );
  }
  return all.sort((a, b) => b.sum - a.sum);
}

const lists = (value: fc.Arbitrary<number>) =>
  fc.array(fc.array(value, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 4 })
    .map((axes) => axes.map((values) => Float64Array.from(values)));

Deno.test("searchBeams() finds the best of all sums as soon as it has as many beams as it keeps", () => {
  const distinct = fc.integer({ min: -(2 ** 20), max: 2 ** 20 });
  for (const value of [fc.integer({ min: -2, max: 2 }), distinct]) {
    fc.assert(
      fc.property(lists(value), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 3 }), (
        axes,
        keep,
        more,
      ) => {
        const found = searchBeams(axes, { width: keep + more, keep });
        const all = exhaustive(axes);
        const best = all.slice(0, keep);
        const sums = found.map((path) => path.reduce((sum, at, a) => sum + axes[a]![at]!, 0));
        assertEquals(sums, best.map(({ sum }) => sum));
        if (new Set(all.map(({ sum }) => sum)).size === all.length) {
          assertEquals(found, best.map(({ path }) => path));
        }
      }),
      { numRuns: 200 },
    );
  }
});

Deno.test("searchBeams() gives ties to the lower beam, then to the lower candidate", () => {
  const [a, b] = [Float64Array.of(1, 1, 0), Float64Array.of(2, 3, 3)];
  assertEquals(searchBeams([a, b], { width: 4, keep: 4 }), [[0, 1], [0, 2], [1, 1], [1, 2]]);
  // One beam loses what would have been second best.
  assertEquals(searchBeams([a, b], { width: 1, keep: 1 }), [[0, 1]]);
});

Deno.test("beamCodes() of one frequency turn whole turns", () => {
  const { data } = beamCodes(5, 2);
  for (let id = 0; id < 5; id++) assert(Math.abs(data[2 * id]! - 1) < 1e-9);
});

Deno.test("beamRoute() with the published router's own codes is as close as float32", () => {
  const bytes = Deno.readFileSync(
    new URL("../../golden/testdata/beam_router.safetensors", import.meta.url),
  );
  const { tensors } = parseSafetensors(bytes, "beam_router");
  const of = (name: string) => toFloat64(tensors.get(name)!);
  const sizes = {
    routing_heads: 2,
    axes: 3,
    axis_query: 8,
    axis_size: 61,
    axis_candidates: 7,
    beam_width: 9,
    top_k: 4,
  };
  const weights = { query_w: of("query_w"), logit_scale: of("logit_scale") };
  const routing = beamRoute(sizes, weights, {
    x: matrix(5, 24, of("x")),
    codes: matrix(61, 8, of("out.codes")),
  });
  assertEquals([...routing.index.map((at) => at % 61)], [...of("out.coords")]);
  assertEquals([...routing.candidates.id], [...of("out.axis_id")]);
  const backward = routing.backward(of("g"));
  const near = (actual: Float64Array, name: string, tolerance: number) =>
    assert(relativeError(actual, of(name)) <= tolerance, name);
  near(routing.query.data, "out.query", 1e-5);
  near(routing.candidates.value, "out.axis_value", 1e-5);
  near(routing.score, "out.scores", 1e-5);
  near(backward.x.data, "grad.x", 3e-5);
  near(backward.weights["query_w"]!, "grad.query_w", 3e-5);
  near(backward.weights["logit_scale"]!, "grad.logit_scale", 3e-5);
});

Deno.test("beamRoute() looks at all ids of an axis that has fewer than it may look at", () => {
  const random = normals(2);
  const sizes = {
    routing_heads: 1,
    axes: 2,
    axis_query: 4,
    axis_size: 3,
    axis_candidates: 32,
    beam_width: 9,
    top_k: 9,
  };
  const weights = { query_w: random(8 * 5), logit_scale: random(2) };
  const { index, candidates } = beamRoute(sizes, weights, { x: matrix(1, 5, random(5)) });
  assertEquals(candidates.id.length, 6);
  // Every expert is kept: each id of the first axis three times.
  const first = [...index].filter((_, i) => i % 2 === 0).sort();
  assertEquals(first, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
});

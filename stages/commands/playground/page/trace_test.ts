import { assertAlmostEquals, assertEquals } from "@std/assert";
import type { PassChoices } from "../../../../model/inference/generator.ts";
import type { ExpertLayer } from "../../../../model/interpret/expert_layers.ts";
import { Trace } from "./trace.ts";

/** Two heads that keep one expert each, of 8. */
const LAYER: ExpertLayer = {
  layer: 1,
  at: "layers.1.ffn",
  kind: "peer",
  experts: 8,
  kept: 2,
  axes: 1,
  axis_size: 8,
};

/** A pass in which each token keeps two experts. */
function pass(position: number, kept: readonly (readonly [number, number][])[]): PassChoices {
  return {
    position,
    tokens: kept.map((_, t) => 100 + position + t),
    layers: [{
      at: LAYER.at,
      index: Uint32Array.from(kept.flatMap((pairs) => pairs.map(([expert]) => expert))),
      weight: Float32Array.from(kept.flatMap((pairs) => pairs.map(([, weight]) => weight))),
    }],
  };
}

const TEXT = { prompt: 2, capacity: 4 };

Deno.test("A trace has the hottest experts first, and what is left of each token", () => {
  const trace = new Trace([LAYER]);
  // The second token's heads keep the same expert; the third keeps one alone.
  trace.add(pass(0, [[[3, 0.5], [1, 0.25]], [[1, 0.5], [1, 1]]]), TEXT);
  trace.add(pass(2, [[[7, 0.125], [8, 0]]]), TEXT);
  assertEquals(trace.length, 3);
  const map = trace.heatMap(1, { experts: 2, rows: 10 });
  assertEquals(map.used, 3);
  assertEquals(map.experts.map(({ name, tokens }) => [name, tokens]), [["1", 2], ["3", 1]]);
  assertAlmostEquals(map.experts[0]!.share, 1.75 / 2.375);
  assertEquals(map.largest, 1.5);
  assertEquals(map.rows, [
    { place: 0, token: 100, made: false, weights: [0.25, 0.5], others: 0 },
    { place: 1, token: 101, made: false, weights: [1.5, 0], others: 0 },
    { place: 2, token: 102, made: true, weights: [0, 0], others: 0.125 },
  ]);
  assertEquals(
    trace.heatMap(1, { experts: 2, rows: 1 }).rows.map(({ place }) => place),
    [2],
  );
});

Deno.test("A trace goes on where the context slides", () => {
  const trace = new Trace([LAYER]);
  const kept: [number, number][] = [[0, 1], [1, 1]];
  trace.add(pass(0, [kept, kept, kept]), TEXT);
  trace.add(pass(3, [kept]), TEXT);
  // Four tokens fill the context: the last of them and a new one are read anew, in two passes.
  trace.add(pass(0, [kept]), TEXT);
  trace.add(pass(1, [kept]), TEXT);
  const { rows } = trace.heatMap(1, { experts: 2, rows: 10 });
  assertEquals(rows.map(({ place, made }) => [place, made]), [[3, true], [4, true]]);
});

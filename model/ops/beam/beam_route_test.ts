import { assert, assertEquals } from "@std/assert";
import type { Capabilities } from "../../gpu/capabilities.ts";
import type { Gpu } from "../../gpu/device.ts";
import type { DType } from "../../gpu/tensor.ts";
import { openTestGpu } from "../../gpu/testing.ts";
import { beamRoute as referenceRoute } from "../../reference/ffn/beam.ts";
import { matrix } from "../../reference/matrix.ts";
import { assertNear, Inputs, noise, runOnce } from "../testing.ts";
import { beamRoute, beamRouteBackward, type BeamSizes } from "./beam_route.ts";

const TOKENS = 11;

const SIZES: BeamSizes = {
  heads: 3,
  axes: 3,
  axis_query: 12,
  axis_size: 29,
  axis_candidates: 7,
  beam_width: 9,
  top_k: 5,
};

interface Options {
  readonly score_bytes?: number;
  /** Type of the queries' gradient. */
  readonly dtype?: DType;
  /** Backward passes, each adding to the temperature's gradient of the one before. */
  readonly passes?: number;
}

const widthOf = ({ heads, axes, axis_query }: BeamSizes) => heads * axes * axis_query;

function inputsOf(sizes: BeamSizes) {
  const { heads, axes, top_k } = sizes;
  return {
    raw: noise(TOKENS * widthOf(sizes), 3),
    logit_scale: noise(heads * axes, 4),
    dscore: noise(TOKENS * heads * top_k, 5),
  };
}

async function run(gpu: Gpu, sizes: BeamSizes, options: Options = {}) {
  const { score_bytes, dtype = "f32", passes = 1 } = options;
  const { heads, axes, top_k } = sizes;
  const values = inputsOf(sizes);
  using inputs = new Inputs(gpu);
  const raw = inputs.tensor("raw", [TOKENS, widthOf(sizes)], { values: values.raw });
  const logit_scale = inputs.tensor("scale", [heads, axes], { values: values.logit_scale });
  const dscore = inputs.tensor("dscore", [TOKENS, heads * top_k], { values: values.dscore });
  const dlogit_scale = inputs.tensor("dscale", [heads, axes]);
  return await runOnce(gpu, (plan) => {
    const input = { sizes, raw, logit_scale };
    const routed = beamRoute(plan, "route", { ...input, ...(score_bytes && { score_bytes }) });
    const draw = plan.tensor("draw", raw.shape, { dtype });
    for (let pass = 0; pass < passes; pass++) {
      beamRouteBackward(plan, "back", {
        ...input,
        routed,
        dscore,
        draw,
        dlogit_scale: { tensor: dlogit_scale, epilogue: pass === 0 ? "none" : "accumulate" },
      });
    }
    const { coords, score, query } = routed;
    return { coords, score, query, draw, dlogit_scale };
  });
}

/** The reference, whose weights are an identity, so that its input is `raw`. */
function expectedOf(sizes: BeamSizes) {
  const { raw, logit_scale, dscore } = inputsOf(sizes);
  const width = widthOf(sizes);
  const query_w = new Float64Array(width * width);
  for (let i = 0; i < width; i++) query_w[i * width + i] = 1;
  const routing = referenceRoute(
    { ...sizes, routing_heads: sizes.heads },
    { query_w, logit_scale },
    { x: matrix(TOKENS, width, raw) },
  );
  const { x, weights } = routing.backward(dscore);
  return { routing, draw: x.data, dlogit_scale: weights["logit_scale"]! };
}

const DEVICES: readonly (readonly [string, Partial<Capabilities>])[] = [
  ["software", { software: true }],
  ["workgroups", { software: false }],
];

for (const [device, restrict] of DEVICES) {
  Deno.test(`beamRoute() and its gradients are the reference's, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    const one = { ...SIZES, axes: 1, heads: 1, top_k: 3 };
    // Queries of one vec4 tell ten ids apart.
    const wide = { ...SIZES, axes: 5, axis_query: 4, axis_size: 9, axis_candidates: 64, top_k: 4 };
    for (const sizes of [SIZES, one, wide]) {
      const found = await run(gpu, sizes);
      const { routing, draw, dlogit_scale } = expectedOf(sizes);
      assertEquals([...found.coords], [...routing.index]);
      const near = { tolerance: 2e-5 };
      assertNear(found.query, routing.query.data, { ...near, what: "queries" });
      assertNear(found.score, routing.score, { ...near, what: "scores" });
      assertNear(found.draw, draw, { ...near, what: "gradient of the queries" });
      assertNear(found.dlogit_scale, dlogit_scale, { ...near, what: "gradient of logit_scale" });
    }
  });

  Deno.test(`beamRoute() in chunks of tokens is the same bits, ${device}`, async () => {
    const gpu = await openTestGpu(restrict);
    const whole = await run(gpu, SIZES);
    // On a GPU up to 16 rows, those of a token, are multiplied by a kernel that adds in another order.
    for (const tokens of restrict.software ? [1, 4] : [3, 4]) {
      assertEquals(await run(gpu, SIZES, { score_bytes: tokens * 4 * 32 * 9 }), whole);
    }
  });
}

Deno.test("beamRouteBackward() writes halves, and adds to an earlier gradient", async () => {
  const gpu = await openTestGpu();
  const { draw, dlogit_scale } = expectedOf(SIZES);
  const halves = await run(gpu, SIZES, { dtype: "f16" });
  assertNear(halves.draw, draw, { tolerance: 1e-3, what: "gradient in halves" });
  const twice = await run(gpu, SIZES, { passes: 2 });
  assertNear(twice.dlogit_scale, dlogit_scale.map((v) => 2 * v), {
    tolerance: 2e-5,
    what: "gradient of two passes",
  });
  assert(twice.dlogit_scale.every(Number.isFinite));
});

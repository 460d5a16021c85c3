import fc from "fast-check";
import { assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { architectureOf } from "../config.ts";
import { DENSE, type ModelChanges } from "../testing.ts";
import type { Architecture } from "../trunk/architecture.ts";
import { parameterSpecs } from "../trunk/parameters.ts";
import { mha } from "./attention/mha.ts";
import { mla } from "./attention/mla.ts";
import { beamRoute } from "./ffn/beam.ts";
import { dropoutMasks } from "./dropout.ts";
import { dense } from "./ffn/dense.ts";
import { ethos } from "./ffn/ethos/ethos.ts";
import { experts } from "./ffn/ethos/experts.ts";
import { peer } from "./ffn/peer.ts";
import { route } from "./ffn/product_key.ts";
import { under } from "./layer.ts";
import { crossEntropy } from "./loss.ts";
import { dot, matrix } from "./matrix.ts";
import { ReferenceModel } from "./model.ts";
import {
  batchNormBackward,
  batchNormForward,
  layerNormBackward,
  layerNormForward,
  rmsNormBackward,
  rmsNormForward,
} from "./norm.ts";
import { addPositions, positionsBackward } from "./positions.ts";
import { rotate } from "./rotary.ts";
import {
  assertGradients,
  normals,
  randomTensors,
  smallAttention,
  smallBeam,
  smallEthos,
  smallModel,
  smallPeer,
} from "./testing.ts";

/** The trained ones among a layer's tensors. */
function trained(model: Architecture, prefix: string, tensors: Map<string, Float64Array>) {
  const names = new Set(parameterSpecs(model).map(({ name }) => name));
  return under([...tensors].filter(([name]) => names.has(name)), prefix);
}

const small = (max: number, min = 1) => fc.integer({ min, max });

Deno.test("gradients of RMS norm", () => {
  fc.assert(
    fc.property(small(5), small(7, 3), small(1000), (rows, columns, seed) => {
      const random = normals(seed);
      const x = random(rows * columns);
      const gain = random(columns);
      const g = random(rows * columns);
      const forward = () => rmsNormForward(matrix(rows, columns, x), gain);
      const backward = rmsNormBackward(forward(), matrix(rows, columns, g));
      assertGradients(() => dot(forward().y.data, g), { x, gain }, {
        x: backward.x.data,
        gain: backward.gain,
      });
    }),
    { numRuns: 10 },
  );
});

Deno.test("gradients of layer norm", () => {
  fc.assert(
    fc.property(small(5), small(7, 3), small(1000), (rows, columns, seed) => {
      const random = normals(seed);
      const x = random(rows * columns);
      const weights = { weight: random(columns), bias: random(columns) };
      const g = random(rows * columns);
      const forward = () => layerNormForward(matrix(rows, columns, x), weights);
      const backward = layerNormBackward(forward(), matrix(rows, columns, g));
      assertGradients(() => dot(forward().y.data, g), { x, ...weights }, {
        x: backward.x.data,
        weight: backward.weight,
        bias: backward.bias,
      });
    }),
    { numRuns: 10 },
  );
});

Deno.test("gradients of rotary embedding with a base, a scaling and a fraction", () => {
  const random = normals(3);
  const [rows, columns] = [9, 20];
  const x = random(rows * columns);
  const g = random(rows * columns);
  const rotary = { base: 500, scaling: { type: "linear", factor: 3 }, fraction: 0.5 } as const;
  const forward = () => rotate(matrix(rows, columns, x), 1, rotary);
  const backward = rotate(matrix(rows, columns, g), -1, rotary);
  assertGradients(() => dot(forward().data, g), { x }, { x: backward.data });
});

Deno.test("gradients of learned positions", () => {
  const random = normals(4);
  const [rows, length, positions, columns] = [12, 4, 6, 5];
  const x = random(rows * columns);
  const table = random(positions * columns);
  const g = random(rows * columns);
  for (const start of [0, 2]) {
    const value = () => {
      const places = { length, start };
      const y = addPositions(matrix(rows, columns, x), matrix(positions, columns, table), places);
      return dot(y.data, g);
    };
    const gradient = matrix(rows, columns, g);
    assertGradients(value, { x, table }, {
      x: g,
      table: positionsBackward(gradient, { length, start, positions }).data,
    });
  }
});

for (const training of [true, false]) {
  Deno.test(`gradients of batch norm, ${training ? "training" : "evaluation"}`, () => {
    fc.assert(
      fc.property(small(7, 3), small(5), small(1000), (rows, columns, seed) => {
        const random = normals(seed);
        const x = random(rows * columns);
        const g = random(rows * columns);
        const weights = {
          "bn.gamma": random(columns),
          "bn.beta": random(columns),
          "bn.mean": random(columns),
          "bn.var": random(columns).map((v) => 0.5 + v * v),
        };
        const forward = () => batchNormForward(matrix(rows, columns, x), weights, { training });
        const backward = batchNormBackward(forward(), matrix(rows, columns, g));
        const { "bn.gamma": gamma, "bn.beta": beta } = weights;
        assertGradients(() => dot(forward().y.data, g), { x, gamma, beta }, {
          x: backward.x.data,
          gamma: backward.gamma,
          beta: backward.beta,
        });
      }),
      { numRuns: 10 },
    );
  });
}

Deno.test("gradients of SwiGLU", () => {
  fc.assert(
    fc.property(small(4), small(6), small(7), small(1000), (tokens, d_model, d_ffn, seed) => {
      const model = smallModel({ d_model, leading_dense: { d_ffn } });
      const weights = under(randomTensors(model, seed), "layers.0.ffn.");
      const random = normals(seed + 1);
      const x = random(tokens * d_model);
      const g = random(tokens * d_model);
      const forward = () => dense({ d_ffn }, weights, { x: matrix(tokens, d_model, x) });
      const backward = forward().backward(matrix(tokens, d_model, g));
      assertGradients(() => dot(forward().y.data, g), { x, ...weights }, {
        x: backward.x.data,
        ...backward.weights,
      });
    }),
    { numRuns: 10 },
  );
});

Deno.test("gradients of attention", () => {
  const sizes = fc.record({
    num_heads: small(3),
    // A latent of one or two numbers may fall next to zero, where the norm bends too sharply for differences.
    q_lora_rank: small(5, 3),
    kv_lora_rank: small(5, 3),
    d_nope: small(4),
    d_rope: small(3).map((half) => 2 * half),
    d_v: small(5),
    rope_base: fc.constantFrom(10000, 3),
  });
  const counts = fc.record({ d_model: small(7), batch: small(3), length: small(6) });
  fc.assert(
    fc.property(sizes, counts, small(1000), (sizes, { d_model, batch, length }, seed) => {
      const model = smallModel({ d_model, attention: sizes });
      const weights = under(randomTensors(model, seed), "layers.0.attn.");
      const random = normals(seed + 1);
      const count = batch * length;
      const x = random(count * d_model);
      const g = random(count * d_model);
      const section = { ...smallAttention, ...sizes };
      const forward = () => mla(section, weights, { x: matrix(count, d_model, x), length });
      const backward = forward().backward(matrix(count, d_model, g));
      assertGradients(() => dot(forward().y.data, g), { x, ...weights }, {
        x: backward.x.data,
        ...backward.weights,
      });
    }),
    { numRuns: 12 },
  );
});

Deno.test("gradients of multi-head attention", () => {
  const sizes = fc.record({
    kv: small(2),
    group: small(3),
    d_head: small(5),
    half: small(3, 0),
    rope_base: fc.constantFrom(10000, 3),
    bias: fc.boolean(),
    dropout: fc.constantFrom(0, 0.4),
  });
  const counts = fc.record({ d_model: small(7), batch: small(3), length: small(6) });
  const property = fc.property(sizes, counts, small(1000), (from, counts, seed) => {
    const { kv, group, half, d_head, ...more } = from;
    const { d_model, batch, length } = counts;
    const heads = { num_heads: kv * group, num_kv_heads: kv, d_head };
    const d_rope = 2 * Math.min(half, Math.floor(d_head / 2));
    const section = { kind: "mha", ...heads, d_rope, ...more } as const;
    const model = architectureOf({ ...smallModel({ d_model }).config, attention: section });
    const weights = under(randomTensors(model, seed), "layers.0.attn.");
    const random = normals(seed + 1);
    const count = batch * length;
    const x = random(count * d_model);
    const g = random(count * d_model);
    const masks = dropoutMasks({ seed, update: 1, microBatch: 0 });
    const forward = () => mha(section, weights, { x: matrix(count, d_model, x), length, masks });
    const backward = forward().backward(matrix(count, d_model, g));
    assertGradients(() => dot(forward().y.data, g), { x, ...weights }, {
      x: backward.x.data,
      ...backward.weights,
    });
  });
  fc.assert(property, { numRuns: 20 });
});

for (const router_batch_norm of [true, false]) {
  for (const training of [true, false]) {
    const name = `${router_batch_norm ? "with" : "without"} batch norm, ${
      training ? "training" : "evaluation"
    }`;
    Deno.test(`gradients of the router ${name}`, () => {
      const model = smallModel({ ffn: { router_batch_norm } });
      const { d_model } = model.config;
      const section = { ...smallEthos, router_batch_norm };
      const prefix = "layers.1.ffn.router.";
      const tensors = randomTensors(model, 5);
      const weights = under(tensors, prefix);
      const random = normals(6);
      const tokens = 7;
      const x = random(tokens * d_model);
      const input = { x: matrix(tokens, d_model, x), training };
      const first = route(section, weights, input);
      const g = random(first.score.length);
      const coefficient = 0.7;
      const forward = () => route(section, weights, { ...input, selection: first.index });
      const backward = first.backward({ score: g, balance: coefficient });
      assertGradients(
        () => dot(forward().score, g) + coefficient * forward().balance,
        { x, ...trained(model, prefix, tensors) },
        { x: backward.x.data, ...backward.weights },
      );
      const bias = Math.max(...backward.weights["b_q"]!.map(Math.abs));
      assertEquals(bias === 0, router_batch_norm && training);
    });
  }
}

Deno.test("gradients of the beam router", () => {
  const sizes = fc.record({
    routing_heads: small(3),
    axes: small(4),
    // A query of two numbers may fall next to zero, where the norm bends too sharply for differences.
    axis_query: small(3, 2).map((half) => 2 * half),
    axis_size: small(7),
    axis_candidates: small(5),
    beam_width: small(6),
  }).chain((all) =>
    small(Math.min(all.beam_width, Math.min(all.axis_size, all.axis_candidates) ** all.axes))
      .map((top_k) => ({ ...all, top_k }))
  );
  fc.assert(
    fc.property(sizes, small(5), small(6, 3), small(1000), (sizes, tokens, d_model, seed) => {
      const random = normals(seed);
      const { routing_heads, axes, axis_query, top_k } = sizes;
      const groups = routing_heads * axes;
      const weights = {
        query_w: random(groups * axis_query * d_model),
        logit_scale: random(groups, 0.3),
      };
      const x = random(tokens * d_model);
      const g = random(tokens * routing_heads * top_k);
      const input = { x: matrix(tokens, d_model, x) };
      const first = beamRoute(sizes, weights, input);
      const backward = first.backward(g);
      const value = () =>
        dot(beamRoute(sizes, weights, { ...input, selection: first.index }).score, g);
      assertGradients(value, { x, ...weights }, { x: backward.x.data, ...backward.weights });
    }),
    { numRuns: 15 },
  );
});

const expertSizes = fc.record({
  num_experts: small(4).map((keys) => keys ** 2),
  d_latent: small(5),
  d_hidden: small(6),
  d_context: small(4, 0),
});

Deno.test("gradients of the experts, reordered and naive", () => {
  const property = fc.property(
    expertSizes,
    fc.record({ d_model: small(6), tokens: small(4), count: small(5) }),
    small(1000),
    (sizes, { d_model, tokens, count }, seed) => {
      const model = smallModel({ d_model, ffn: sizes });
      const all = under(randomTensors(model, seed), "layers.1.ffn.");
      const weights = Object.fromEntries(
        Object.entries(all).filter(([name]) => !name.startsWith("router.")),
      );
      const random = normals(seed + 1);
      const x = random(tokens * d_model);
      const g = random(tokens * d_model);
      const score = random(tokens * count).map(Math.abs);
      // Few experts and several slots: some tokens keep an expert twice.
      const index = Int32Array.from(
        random(tokens * count),
        (v) => Math.floor(Math.abs(v * 1e4)) % sizes.num_experts,
      );
      const input = { x: matrix(tokens, d_model, x), kept: { index, score } };
      const results = (["reordered", "naive"] as const).map((execution) => {
        const forward = () => experts(sizes, weights, { ...input, execution });
        const first = forward();
        const backward = first.backward(matrix(tokens, d_model, g));
        const gradients = { x: backward.x.data, score: backward.score, ...backward.weights };
        assertGradients(() => dot(forward().y.data, g), { x, score, ...weights }, gradients);
        return { y: first.y.data, ...gradients };
      });
      for (const [name, value] of Object.entries(results[0]!)) {
        const other = (results[1] as Record<string, Float64Array>)[name]!;
        value!.forEach((v, i) => assertAlmostEquals(v, other[i]!, 1e-10 * (1 + Math.abs(v)), name));
      }
    },
  );
  fc.assert(property, { numRuns: 10 });
});

for (const d_context of [0, 3]) {
  Deno.test(`gradients of the ETHOS layer, d_context ${d_context}`, () => {
    const ffn = { d_context, load_balance_coef: 0.3 };
    const model = smallModel({ ffn });
    const section = { ...smallEthos, ...ffn };
    const { d_model } = model.config;
    const prefix = "layers.1.ffn.";
    const tensors = randomTensors(model, 8);
    const weights = under(tensors, prefix);
    const random = normals(9);
    const tokens = 5;
    const x = random(tokens * d_model);
    const g = random(tokens * d_model);
    const input = { x: matrix(tokens, d_model, x), training: true };
    const first = ethos(section, weights, input);
    const backward = first.backward(matrix(tokens, d_model, g));
    const value = () => {
      const { y, auxiliary } = ethos(section, weights, {
        ...input,
        selection: first.routing.index,
      });
      return dot(y.data, g) + auxiliary;
    };
    assertGradients(value, { x, ...trained(model, prefix, tensors) }, {
      x: backward.x.data,
      ...backward.weights,
    });
  });
}

Deno.test("gradients of the PEER layer", () => {
  fc.assert(
    fc.property(
      fc.record({ keys: small(4, 2), routing_heads: small(3), top_k: small(2), d_model: small(6) }),
      fc.boolean(),
      small(1000),
      ({ keys, d_model, ...sizes }, router_batch_norm, seed) => {
        const section = { ...smallPeer, ...sizes, num_experts: keys ** 2, router_batch_norm };
        const model = smallModel({ d_model, ffn: section });
        const prefix = "layers.1.ffn.";
        const tensors = randomTensors(model, seed);
        const weights = under(tensors, prefix);
        const random = normals(seed + 1);
        // Batch norm of few tokens bends too sharply for differences.
        const tokens = 12;
        const x = random(tokens * d_model);
        const g = random(tokens * d_model);
        const input = { x: matrix(tokens, d_model, x), training: true };
        const first = peer(section, weights, input);
        const backward = first.backward(matrix(tokens, d_model, g));
        const value = () => {
          const selection = first.routing.index;
          const { y, auxiliary } = peer(section, weights, { ...input, selection });
          return dot(y.data, g) + auxiliary;
        };
        assertGradients(value, { x, ...trained(model, prefix, tensors) }, {
          x: backward.x.data,
          ...backward.weights,
        });
      },
    ),
    { numRuns: 8, seed: 3 },
  );
});

Deno.test("gradients of the cross-entropy", () => {
  fc.assert(
    fc.property(small(5), small(9, 2), small(1000), (rows, columns, seed) => {
      const logits = normals(seed)(rows * columns, 2);
      const targets = Array.from({ length: rows }, (_, i) => (i * 7 + seed) % columns);
      const { gradient } = crossEntropy(matrix(rows, columns, logits), targets);
      const value = () => crossEntropy(matrix(rows, columns, logits), targets).loss;
      assertGradients(value, { logits }, { logits: gradient.data });
    }),
    { numRuns: 10 },
  );
});

const allOptions = {
  norm: "layer",
  epsilon: 1e-4,
  positions: "learned",
  residual: "parallel",
  head: "own",
};

const SWITCH = { kind: "switch", num_experts: 5, d_expert: 3, load_balance_coef: 0.2 };
const TOPK_MOE = {
  kind: "topk_moe",
  num_experts: 5,
  d_expert: 3,
  top_k: 2,
  biases: true,
  gelu: "tanh",
  load_balance_coef: 0,
  expert_dropout: 0,
  choice: "top_k",
  expert_init: "normal",
};

Deno.test("gradients of the whole model with dropout", () => {
  const attention = { kind: "mha", num_heads: 2, dropout: 0.3 } as const;
  const more = { bias: true, d_rope: 0, rope_base: 1e4 };
  for (
    const changes of [
      { ...DENSE, attention: { ...attention, ...more }, trunk: { dropout: 0.3 } },
      { ffn: { ...TOPK_MOE, expert_dropout: 0.4, biases: true } },
    ]
  ) {
    const architecture = smallModel(changes);
    const model = new ReferenceModel(architecture, randomTensors(architecture, 12));
    const batch = { tokens: [1, 5, 2, 9, 1, 0], targets: [5, 2, 9, 4, 0, 10], length: 3 };
    const masks = dropoutMasks({ seed: 3, update: 2, microBatch: 1 });
    const { gradients, total, routings } = model.gradients(batch, { masks });
    const selections = new Map(Array.from(routings, ([layer, { used }]) => [layer, used]));
    assertNotEquals(total, model.loss(batch).total);
    assertGradients(
      () => model.loss({ ...batch, selections }, { masks }).total,
      Object.fromEntries(model.parameters),
      Object.fromEntries(gradients),
    );
  }
});

const variants: [string, ModelChanges][] = [
  ["ethos", { num_layers: 3 }],
  ["context-aware with load balance", { ffn: { d_context: 3, load_balance_coef: 0.4 } }],
  ["naive, without batch norm", { ffn: { execution: "naive", router_batch_norm: false } }],
  ["stored experts with load balance", { ffn: smallPeer }],
  ["stored experts without batch norm", { ffn: { ...smallPeer, router_batch_norm: false } }],
  ["experts by mass with load balance", {
    ffn: { choice: "mass", mass: 0.7, min_k: 1, load_balance_coef: 0.4 },
  }],
  ["stored experts above a threshold with load balance", {
    ffn: { ...smallPeer, choice: "threshold", threshold: 0.3 },
  }],
  ["beams", { ffn: smallBeam }],
  ["beams, context-aware and naive", {
    ffn: { ...smallBeam, axes: 2, d_context: 3, execution: "naive" },
  }],
  ["dense", DENSE],
  ["switch", { ffn: SWITCH }],
  ["topk_moe with biases", { ffn: TOPK_MOE }],
  ["topk_moe, balanced, exact gelu, without biases", {
    ffn: { ...TOPK_MOE, biases: false, gelu: "exact", load_balance_coef: 0.3 },
  }],
  ["topk_moe with as many experts as their probabilities take", {
    ffn: { ...TOPK_MOE, top_k: 4, choice: "top_p", top_p: 0.6, load_balance_coef: 0.3 },
  }],
  ["layer norm", { trunk: { norm: "layer", epsilon: 1e-3 } }],
  ["learned positions", { trunk: { positions: "learned" } }],
  ["parallel residual", { trunk: { residual: "parallel" } }],
  ["a head of its own", { trunk: { head: "own" } }],
  ["every option of the trunk, ethos", { trunk: allOptions }],
  ["every option of the trunk, dense", { ...DENSE, trunk: allOptions }],
  ["dense with biases", { ...DENSE, ffn: { ...DENSE.ffn, biases: true } }],
  ["dense, gelu with biases", {
    ...DENSE,
    ffn: { ...DENSE.ffn, activation: "gelu", biases: true },
  }],
  ["dense, exact gelu", { ...DENSE, ffn: { ...DENSE.ffn, activation: "gelu_exact" } }],
  ["multi-head attention", {
    ...DENSE,
    attention: { kind: "mha", num_heads: 2, bias: true, d_rope: 0, rope_base: 1e4, dropout: 0 },
  }],
];

for (const [name, changes] of variants) {
  Deno.test(`gradients of the whole model, ${name}`, () => {
    const architecture = smallModel(changes);
    const model = new ReferenceModel(architecture, randomTensors(architecture, 11));
    const batch = {
      tokens: [1, 5, 2, 9, 1, 0, 10, 3],
      targets: [5, 2, 9, 4, 0, 10, 3, 3],
      length: 4,
    };
    const { gradients, routings } = model.gradients(batch);
    assertEquals(gradients.size, parameterSpecs(architecture).length);
    const selections = new Map(Array.from(routings, ([layer, { used }]) => [layer, used]));
    // Every layer whose experts are chosen is held to its choice.
    assertEquals(selections.size > 0, architecture.config.ffn.kind !== "dense");
    assertGradients(
      () => model.loss({ ...batch, selections }).total,
      Object.fromEntries(model.parameters),
      Object.fromEntries(gradients),
    );
  });
}

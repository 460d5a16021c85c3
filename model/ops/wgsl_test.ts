/** Every kernel, in the variants that each kind of device takes, compiles under naga and under tint. */

import { assert, assertEquals } from "@std/assert";
import { WEBGPU_DEFAULTS } from "../gpu/capabilities.ts";
import { validateKernels } from "../gpu/dawn_null.ts";
import { type Gpu, openGpu } from "../gpu/device.ts";
import { Plan } from "../gpu/plan.ts";
import { DEVICE_PROFILES, type RecordedKernel, recordKernels } from "../gpu/recording.ts";
import { type DType, Tensor } from "../gpu/tensor.ts";
import { initializeNormal, initializeUniform } from "./optimizer/initialize.ts";
import { ethosSizes, recordEthosVariants } from "../ffn/ethos/ethos_testing.ts";
import { LayerContext } from "../layer/context.ts";
import { changedModel, DENSE, type ModelChanges, PEER } from "../testing.ts";
import { decoders, recordDecoding } from "../trunk/decoding.ts";
import { recordEvaluation, recordTraining } from "../trunk/network.ts";
import { attentionBackward, attentionForward } from "./attention/attention.ts";
import { cachedAttention } from "./attention/cached_attention.ts";
import { joinHeads, splitHeads } from "./attention/heads.ts";
import { DROPOUT_KEY, dropoutKey, dropoutRows } from "./dropout/dropout.ts";
import { addResidual } from "./elementwise/add_residual.ts";
import { columnSums } from "./elementwise/column_sums.ts";
import { rope } from "./attention/rope.ts";
import { beamRoute, beamRouteBackward } from "./beam/beam_route.ts";
import { factoredGradient, gatherCodes } from "./beam/factored_codes.ts";
import { castInto } from "./elementwise/cast.ts";
import { recordCompressedProducts } from "./compressed/compressed_testing.ts";
import { copyThrough, copyVariants } from "./elementwise/copy.ts";
import { countTargets, crossEntropy } from "./elementwise/cross_entropy.ts";
import { embeddingBackward, embeddingForward } from "./elementwise/embedding.ts";
import { addPositions, positionsBackward } from "./elementwise/positions.ts";
import { orderKept, storedExperts, storedExpertsBackward } from "./experts/experts_stored.ts";
import { type Epilogue, gemm } from "./gemm/gemm.ts";
import { matrix, transpose } from "./gemm/matrix.ts";
import { recordGivenChoices, recordGroupedProducts } from "./mixture/mixture_testing.ts";
import { CONTROL, LOSS, METRICS, METRICS_RING, SCHEDULE } from "./control.ts";
import { recordUpdate, sumInto } from "./optimizer/optimizer.ts";
import { clusterMeans, nearestCentroid } from "./linalg/cluster.ts";
import { inverseCholesky } from "./linalg/cholesky.ts";
import { addToDiagonal, centreRows, readDiagonal, secondMoment } from "./linalg/moments.ts";
import { pruneMatrix } from "./linalg/prune.ts";
import { layernormBackward, layernormForward } from "./norm/layernorm.ts";
import { rmsnormBackward, rmsnormForward } from "./norm/rmsnorm.ts";
import { queryStatistics } from "./routing/routing.ts";
import { countUsage } from "./routing/usage.ts";
import { geluBackward, geluForward } from "./elementwise/gelu.ts";
import { swigluBackward, swigluForward } from "./elementwise/swiglu.ts";
import { weightSpecs } from "../trunk/parameters.ts";
import { Weights } from "../layer/weights.ts";

/** A tensor that exists outside of the plan, as weights do. */
const t = (name: string, shape: readonly number[], dtype: DType = "f32") =>
  new Tensor(name, shape, { dtype });

const EPILOGUES: readonly Epilogue[] = ["none", "add", "accumulate", "gelu", "gelu_backward"];

/** Records each operation, in each variant of its options. */
const RECORDINGS: Readonly<Record<string, (gpu: Gpu) => Plan[]>> = {
  gemm(gpu) {
    const plan = new Plan(gpu, "gemm");
    const products = (sizes: readonly [number, number, number], epilogues: readonly Epilogue[]) => {
      const [m, n, k] = sizes;
      for (const dtype of ["f32", "f16"] as const) {
        for (const layout of ["nn", "nt", "tn"] as const) {
          for (const epilogue of epilogues) {
            gemm(plan, `${layout} ${epilogue} ${sizes.join("×")}`, {
              a: t("a", layout === "tn" ? [k, m] : [m, k], dtype),
              b: t("b", layout === "nt" ? [n, k] : [k, n], dtype),
              c: t("c", [m, n], dtype),
              layout,
              epilogue,
              ...(epilogue === "add" ? { addend: t("e", [m, n], dtype) } : {}),
            });
          }
        }
      }
    };
    products([64, 64, 64], EPILOGUES);
    products([1024, 1024, 1024], EPILOGUES);
    // The other tiles, with whole sums and with sums in parts; epilogues are the same text in each.
    for (
      const sizes of [
        [64, 64, 1024],
        [1024, 1024, 64],
        [8192, 64, 64],
        [1280, 64, 5120],
        [16384, 64, 64],
        [4096, 64, 4096],
      ] as const
    ) products(sizes, ["none"]);
    for (const dtype of ["f32", "f16"] as const) {
      for (const layout of ["nn", "nt"] as const) {
        const operands = { a: t("a", [1, 64], dtype), b: t("b", [64, 64], dtype) };
        gemm(plan, `${layout} row`, { ...operands, c: t("c", [1, 64], dtype), layout });
      }
    }
    for (const dtype of ["f32", "f16"] as const) {
      transpose(plan, "transposed", matrix(t("a", [64, 32], dtype)));
      transpose(plan, "transposed", matrix(t("a", [64, 36], dtype)));
    }
    return [plan];
  },
  gemm_grouped: (gpu) => [recordGroupedProducts(gpu)],
  compressed: (gpu) => [recordCompressedProducts(gpu)],
  mixture: (gpu) => [recordGivenChoices(gpu)],
  attention(gpu) {
    const plan = new Plan(gpu, "attention");
    // Widths that fill blocks, the paper's first.
    for (const [d_nope, d_rope, d_v] of [[64, 64, 64], [20, 20, 36], [64, 0, 64]] as const) {
      // With and without whole blocks.
      for (
        const [dtype, length] of [["f32", 100], ["f32", 256], ["f16", 100], ["f16", 256]] as const
      ) {
        const sizes = { batch: 1, length, heads: 2, d_nope, d_rope, d_v };
        const [q, kv, o] = [d_nope + d_rope, d_nope + d_v, d_v].map((width) =>
          t("x", [length, 2 * width], dtype)
        ) as [Tensor, Tensor, Tensor];
        const shared = d_rope > 0;
        const dropout = { key: t("key", [DROPOUT_KEY], "u32"), place: 1, rate: 0.1 };
        const operands = {
          sizes,
          q,
          kv,
          o,
          log_sum: t("log_sum", [2, length]),
          ...(shared && { kr: t("kr", [length, d_rope], dtype) }),
        };
        const variants = (["stored", "recomputed"] as const).flatMap((scores) => [
          { scores },
          ...shared ? [] : [{ scores, dropout }],
        ]);
        for (const variant of variants) {
          attentionForward(plan, "attention", { ...operands, ...variant });
          attentionBackward(plan, "attention", {
            ...operands,
            ...variant,
            d_o: t("d_o", [length, 2 * d_v], dtype),
            d_q: t("d_q", q.shape.slice(), dtype),
            d_kv: t("d_kv", kv.shape.slice(), dtype),
            ...(shared && { d_kr: t("d_kr", [length, 2 * d_rope]) }),
          });
        }
      }
    }
    return [plan];
  },
  heads(gpu) {
    const plan = new Plan(gpu, "heads");
    const groups = { heads: 4, kv_heads: 2, d_head: 16 };
    for (const dtype of ["f32", "f16"] as const) {
      const q = t("q", [8, 64], dtype);
      const kv = t("kv", [8, 128], dtype);
      const qkv = t("qkv", [8, 128], dtype);
      for (const bias of [undefined, t("bias", [128])]) {
        splitHeads(plan, "split", { groups, qkv, bias, q, kv });
      }
      joinHeads(plan, "join", { groups, d_q: q, d_kv: kv, d_qkv: qkv });
      const position = t("position", [1], "u32");
      const cache = t("cache", [100, 64], dtype);
      cachedAttention(plan, "cached", {
        groups,
        q,
        kv: cache,
        position,
        y: t("y", [8, 64], dtype),
      });
    }
    return [plan];
  },
  dropout(gpu) {
    const plan = new Plan(gpu, "dropout");
    const key = t("key", [DROPOUT_KEY], "u32");
    const dropout = { key, place: 1, rate: 0.1 };
    const control = t("control", [CONTROL.length]);
    for (const first of [true, false]) dropoutKey(plan, "key", { key, control, seed: 1, first });
    const x = t("x", [8, 64]);
    for (const y of [x, t("y", [8, 64]), t("y", [8, 64], "f16")]) {
      for (const numbers of [undefined, t("numbers", [8], "u32")]) {
        dropoutRows(plan, "rows", { x, y, dropout, numbers });
      }
    }
    return [plan];
  },
  biases(gpu) {
    const plan = new Plan(gpu, "biases");
    const dropout = { key: t("key", [DROPOUT_KEY], "u32"), place: 1, rate: 0.1 };
    const operands = { residual: t("residual", [8, 64]), y: t("y", [8, 64]) };
    for (const dtype of ["f32", "f16"] as const) {
      const x = t("x", [8, 64], dtype);
      const bias = t("bias", [64]);
      for (const more of [{}, { bias }, { dropout }, { bias, dropout }]) {
        addResidual(plan, "residual", { ...operands, ...more, x });
      }
      for (const epilogue of ["none", "accumulate"] as const) {
        columnSums(plan, "sums", { x, y: { tensor: t("sums", [64]), epilogue } });
      }
    }
    return [plan];
  },
  elementwise(gpu) {
    const plan = new Plan(gpu, "elementwise");
    for (const dtype of ["f32", "f16"] as const) {
      const [gate, up, h, dh, dgate, dup] = ["gate", "up", "h", "dh", "dgate", "dup"].map((name) =>
        t(name, [16, 64], dtype)
      ) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
      const bias = t("bias", [64]);
      for (const biases of [undefined, { gate: bias, up: t("bias_up", [64]) }]) {
        swigluForward(plan, "swiglu", { gate, up, biases, h });
        swigluBackward(plan, "swiglu", { gate, up, biases, dh, dgate, dup });
      }
      for (const form of ["tanh", "exact"] as const) {
        for (const more of [{}, { bias }]) {
          geluForward(plan, "gelu", { x: up, form, ...more, h });
          geluBackward(plan, "gelu", { x: up, form, ...more, dh, dx: dup });
        }
      }
    }
    castInto(plan, "cast", { from: t("from", [16, 64]), to: t("to", [16, 64], "f16") });
    castInto(plan, "cast", { from: t("from", [16, 64], "f16"), to: t("to", [16, 64]) });
    initializeNormal(plan, "normal", [t("w", [16, 64])], { seed: 1, deviation: 0.02 });
    initializeUniform(plan, "uniform", [t("w", [16, 64])], { seed: 1, bound: 0.02 });
    return [plan];
  },
  copy(gpu) {
    const plan = new Plan(gpu, "copy");
    for (const variant of copyVariants(gpu)) {
      copyThrough(plan, "copy", { from: t("from", [16, 64]), to: t("to", [16, 64]), variant });
    }
    return [plan];
  },
  moments(gpu) {
    const plan = new Plan(gpu, "moments");
    const x = t("x", [20_000, 64]);
    const y = t("y", [20_000, 64]);
    const moment = t("moment", [64, 64]);
    centreRows(plan, "centre", { x, mean: t("mean", [64]), y });
    // More products than add up at once.
    secondMoment(plan, "moment", { x: [y], columns: 64, moment, scale: 0.5 });
    const d = t("d", [64]);
    readDiagonal(plan, "diagonal", { h: moment, d });
    addToDiagonal(plan, "diagonal", { h: moment, d });
    const failed = t("failed", [4], "u32");
    inverseCholesky(plan, "factor", { h: moment, u: t("u", [64, 64]), failed });
    return [plan];
  },
  clusters(gpu) {
    const plan = new Plan(gpu, "clusters");
    const on = {
      x: t("x", [100, 8]),
      centroids: t("centroids", [5, 8]),
      label: t("label", [100], "u32"),
      distance: t("distance", [100]),
    };
    nearestCentroid(plan, "nearest", on);
    nearestCentroid(plan, "nearest", on, { only: 3 });
    clusterMeans(plan, "means", on);
    return [plan];
  },
  pruning(gpu) {
    const plan = new Plan(gpu, "pruning");
    const tensors = {
      dense: t("dense", [9, 320]),
      live: t("live", [320]),
      u: t("u", [320, 320]),
      w: t("w", [9, 320]),
      codes: t("codes", [9, 320], "u32"),
      losses: t("losses", [3]),
    };
    const grid = t("grid", [9, 2]);
    // Blocks that end with a vec4 and within one, and those of which an invocation has one column and several.
    for (const block of [128, 10, 160]) {
      for (
        const choice of [
          { kind: "sparsity", prunedOf: (n: number) => n >> 1 },
          { kind: "pattern", zeros: 1, group: 2 },
        ] as const
      ) {
        pruneMatrix(plan, "prune", { ...tensors, block, choice });
        for (const symmetric of [true, false]) {
          const levels = { lowest: 0, highest: 15, symmetric, grid };
          pruneMatrix(plan, "prune", { ...tensors, block, choice, levels });
        }
      }
    }
    return [plan];
  },
  stored_experts(gpu) {
    const plan = new Plan(gpu, "stored experts");
    // Rows that a subgroup holds, in whole invocations and with some left over, and rows that only a workgroup does.
    for (
      const [width, dtype] of [[1024, "f16"], [1024, "f32"], [100, "f16"], [4096, "f16"]] as const
    ) {
      const kept = { index: t("index", [32, 8], "u32"), score: t("score", [32, 8]) };
      const tables = (
        dtype: DType,
      ) => [t("part", [40, width], dtype), t("part", [24, width], dtype)];
      const gradients = () =>
        tables("f32").map((tensor) => ({ tensor, epilogue: "none" as const }));
      const ordered = orderKept(plan, "experts", { kept, experts: 64 });
      for (const execution of ["naive", "fused"] as const) {
        const shared = {
          tables: { u: tables(dtype), v: tables(dtype) },
          x: t("x", [32, width], dtype),
          kept: ordered,
          execution,
        };
        const p = storedExperts(plan, "experts", { ...shared, y: t("y", [32, width]) });
        storedExpertsBackward(plan, "experts", {
          ...shared,
          p,
          dy: t("dy", [32, width], dtype),
          dx: t("dx", [32, width]),
          dscore: t("dscore", [32, 8]),
          gradients: { u: gradients(), v: gradients() },
        });
      }
    }
    return [plan];
  },
  embedding(gpu) {
    const plan = new Plan(gpu, "embedding");
    for (const dtype of ["f32", "f16"] as const) {
      const tokens = t("tokens", [32], "u32");
      const parts = [t("table.0", [64, 32], dtype), t("table.1", [36, 32], dtype)];
      embeddingForward(plan, "embedding", { tokens, parts, x: t("x", [32, 32], dtype) });
    }
    embeddingBackward(plan, "embedding", {
      sorted: {
        order: t("order", [32], "u32"),
        keys: t("keys", [32], "u32"),
        begin: t("begin", [101], "u32"),
      },
      dx: t("dx", [32, 32]),
      parts: [t("grad.0", [64, 32]), t("grad.1", [36, 32])],
    });
    return [plan];
  },
  cross_entropy(gpu) {
    const plan = new Plan(gpu, "cross-entropy");
    for (const dtype of ["f32", "f16"] as const) {
      const tensors = {
        logits: t("logits", [32, 100], dtype),
        targets: t("targets", [32], "u32"),
        losses: t("losses", [32]),
      };
      const options = { vocabulary: 99, rows: 32, first: 0 };
      crossEntropy(plan, "loss", tensors, options);
      crossEntropy(plan, "loss", tensors, {
        ...options,
        gradient: { scale: 1 / 32, control: t("control", [CONTROL.length]) },
      });
      const predictions = t("predictions", [1, 4]);
      countTargets(plan, "count", { targets: tensors.targets, predictions });
      crossEntropy(plan, "loss", tensors, {
        ...options,
        gradient: { scale: 1, control: t("control", [CONTROL.length]), predictions },
      });
    }
    for (const add of [true, false]) {
      const total = t("total", [4]);
      sumInto(plan, "sum", { x: t("losses", [32]), total }, { slot: 0, scale: 1, add });
      const divided = { x: t("losses", [32]), total, divisor: t("divisor", [4]) };
      sumInto(plan, "sum", divided, { slot: 0, scale: 1, add });
    }
    return [plan];
  },
  rmsnorm(gpu) {
    const plan = new Plan(gpu, "rmsnorm");
    for (const dtype of ["f32", "f16"] as const) {
      const [x, y, dy, dx] = ["x", "y", "dy", "dx"].map((name) => t(name, [32, 64], dtype)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const gain = t("gain", [64]);
      const scale = t("scale", [32]);
      const dgain = { tensor: t("dgain", [64]), epilogue: "none" } as const;
      rmsnormForward(plan, "norm", { x, y, gain, scale });
      for (const epilogue of ["none", "accumulate"] as const) {
        rmsnormBackward(plan, "norm", { x, dy, dx, gain, scale, dgain, epilogue });
      }
    }
    return [plan];
  },
  layernorm(gpu) {
    const plan = new Plan(gpu, "layernorm");
    for (const dtype of ["f32", "f16"] as const) {
      const [x, y, dy, dx] = ["x", "y", "dy", "dx"].map((name) => t(name, [32, 64], dtype)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const gain = t("gain", [64]);
      const [mean, scale] = [t("mean", [32]), t("scale", [32])];
      layernormForward(plan, "norm", { x, y, gain, bias: t("bias", [64]), mean, scale });
      for (const epilogue of ["none", "accumulate"] as const) {
        layernormBackward(plan, "norm", {
          ...{ x, dy, dx, gain, mean, scale, epilogue },
          dgain: { tensor: t("dgain", [64]), epilogue },
          dbias: { tensor: t("dbias", [64]), epilogue },
        });
      }
    }
    return [plan];
  },
  rope(gpu) {
    const plan = new Plan(gpu, "rope");
    for (const dtype of ["f32", "f16"] as const) {
      // Whole vec4s, halves that are none, and a last vec4 that is shared.
      for (const columns of [16, 20, 10]) {
        for (const y of [undefined, matrix(t("y", [32, 64], dtype), { columns })]) {
          for (const inverse of [true, false]) {
            rope(plan, "rope", {
              x: matrix(t("x", [32, 64], dtype), { columns }),
              groups: { count: 2, step: 32 },
              ...(y ? { y } : { position: t("position", [1], "u32") }),
              length: 16,
              inverse,
            });
          }
        }
      }
    }
    return [plan];
  },
  positions(gpu) {
    const plan = new Plan(gpu, "positions");
    for (const dtype of ["f32", "f16"] as const) {
      const operands = { x: t("x", [32, 64]), table: t("table", [20, 64], dtype), length: 16 };
      addPositions(plan, "positions", operands);
      addPositions(plan, "positions", { ...operands, position: t("position", [1], "u32") });
    }
    for (const epilogue of ["none", "accumulate"] as const) {
      const operands = { dx: t("dx", [32, 64]), d_table: t("d_table", [20, 64]), length: 16 };
      positionsBackward(plan, "positions", { ...operands, epilogue });
    }
    return [plan];
  },
  ethos(gpu) {
    const sizes = { d_model: 32, d_query: 16, d_latent: 16, d_hidden: 24, routing_heads: 2 };
    // More sub-keys than an invocation's, and a width beyond one tile, too.
    // More kept than a subgroup has invocations.
    const many = { ...sizes, num_experts: 64 ** 2, top_k: 48 };
    const large = { ...sizes, num_experts: 128 ** 2, top_k: 16, d_hidden: 1024 };
    const paper = { ...sizes, num_experts: 64, top_k: 4, d_latent: 128, d_hidden: 512 };
    return [{ ...sizes, num_experts: 64, top_k: 4 }, many, large, paper].flatMap((section) =>
      recordEthosVariants(gpu, ethosSizes(section))
    );
  },
  beam(gpu) {
    // A sort of all ids at once and one of several tiles; one axis and many.
    const small = { heads: 2, axes: 3, axis_query: 8, axis_size: 30, axis_candidates: 7 };
    const large = { heads: 1, axes: 12, axis_query: 128, axis_size: 3000, axis_candidates: 512 };
    return [
      { ...small, beam_width: 9, top_k: 4 },
      { ...small, axes: 1, beam_width: 9, top_k: 5 },
      { ...large, beam_width: 128, top_k: 64 },
    ].map((sizes) => {
      const plan = new Plan(gpu, "beam");
      const { heads, axes, axis_query, axis_size, top_k } = sizes;
      const raw = t("raw", [8, heads * axes * axis_query]);
      const input = { sizes, raw, logit_scale: t("logit_scale", [heads, axes]) };
      const routed = beamRoute(plan, "route", input);
      for (const dtype of ["f32", "f16"] as const) {
        beamRouteBackward(plan, "back", {
          ...input,
          routed,
          dscore: t("dscore", [8, heads * top_k]),
          draw: t("draw", raw.shape, dtype),
          dlogit_scale: { tensor: t("dlogit_scale", [heads, axes]), epilogue: "none" },
        });
        const z = t("z", [axes, axis_size, 16], dtype);
        const codes = gatherCodes(plan, "codes", { z, coords: routed.coords, axes });
        const dcodes = codes.map(({ shape }) => t("dcodes", shape));
        for (const epilogue of ["none", "accumulate"] as const) {
          const gradient = { tensor: t("dz", z.shape), epilogue };
          factoredGradient(plan, "codes", { dcodes, coords: routed.coords, axes, gradient });
        }
      }
      return plan;
    });
  },
  query_statistics(gpu) {
    const plan = new Plan(gpu, "query statistics");
    for (const dtype of ["f32", "f16"] as const) {
      queryStatistics(plan, "query", { query: t("query", [32, 32], dtype), d_query: 16 });
    }
    return [plan];
  },
  optimizer(gpu) {
    return [undefined, "f16"].flatMap((mixed) => {
      const plan = new Plan(gpu, "optimizer");
      const chunk = {
        value: t("value", [4096]),
        gradient: t("gradient", [4096]),
        m: t("m", [4096]),
        v: t("v", [4096]),
        operand: mixed ? t("operand", [4096], "f16") : undefined,
      };
      recordUpdate(plan, [{ decay: true, chunks: [chunk] }, { decay: false, chunks: [chunk] }], {
        control: t("control", [CONTROL.length]),
        schedule: t("schedule", [SCHEDULE.length]),
        loss: t("loss", [LOSS.length]),
        metrics: t("metrics", [METRICS_RING, METRICS.length]),
      }, {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1,
        ...(mixed
          ? {
            loss_scale: {
              growth_interval: 2000,
              growth_factor: 2,
              backoff_factor: 0.5,
              minimum: 1,
            },
          }
          : {}),
      });
      return [plan];
    });
  },
};

/** A small model with every kind of layer. */
const SMALL: ModelChanges = {
  vocab_size: 101,
  d_model: 32,
  num_layers: 2,
  leading_dense: { num_layers: 1, d_ffn: 40 },
  attention: {
    kind: "mla",
    num_heads: 2,
    q_lora_rank: 16,
    kv_lora_rank: 12,
    d_nope: 8,
    d_rope: 8,
    d_v: 8,
  },
  ffn: {
    kind: "ethos",
    num_experts: 64,
    routing_heads: 2,
    top_k: 4,
    d_query: 16,
    d_latent: 8,
    d_hidden: 24,
  },
};

/** Experts behind beams. */
const BEAM = {
  kind: "ethos",
  router: "beam",
  routing_heads: 2,
  top_k: 4,
  axes: 3,
  axis_query: 8,
  axis_size: 16,
  axis_candidates: 5,
  beam_width: 6,
  d_latent: 8,
  d_hidden: 24,
};

/** Models that between them take every path: each execution with each of these. */
const NETWORKS: readonly (readonly [ModelChanges, "f32" | "mixed"])[] = [
  ...(["materialized", "fused", "naive"] as const).flatMap((execution) => [
    [{ ffn: { execution, load_balance_coef: 0.1 } }, "f32"] as const,
    [{ ffn: { execution, d_context: 4 } }, "mixed"] as const,
    [{ ffn: { execution, d_context: 4, router_batch_norm: false } }, "f32"] as const,
    [
      { ffn: { execution, load_balance_coef: 0.1, router_batch_norm: false } },
      "mixed",
    ] as const,
  ]),
  ...(["f32", "mixed"] as const).flatMap((precision) => [
    [{ ffn: BEAM }, precision] as const,
    [{ ffn: { ...BEAM, execution: "naive", d_context: 4 } }, precision] as const,
    [DENSE, precision] as const,
    [{ ffn: { ...PEER, execution: "naive" } }, precision] as const,
    [{ ffn: { ...PEER, top_k: 4, choice: "threshold", threshold: 0.2 } }, precision] as const,
    [{
      ffn: { execution: "materialized", choice: "mass", mass: 0.8, load_balance_coef: 0.1 },
    }, precision] as const,
    [{ ffn: { ...PEER, execution: "fused", load_balance_coef: 0.1 } }, precision] as const,
    // The other choice of every option of the trunk.
    [{
      ...DENSE,
      trunk: { norm: "layer", positions: "learned", residual: "parallel", head: "own" },
    }, precision] as const,
    // Experts without tokens of their own are most of 8; gates of 8 and of 5 are read with and without padding.
    [{ ffn: { kind: "switch", num_experts: 5, d_expert: 24 } }, precision] as const,
    [{ ffn: { kind: "topk_moe", num_experts: 8, d_expert: 24 } }, precision] as const,
    [{
      ffn: {
        kind: "topk_moe",
        num_experts: 5,
        top_k: 3,
        d_expert: 24,
        biases: false,
        gelu: "exact",
        load_balance_coef: 0.1,
        choice: "top_p",
        top_p: 0.5,
        expert_dropout: 0.1,
      },
    }, precision] as const,
    [{ ...DENSE, ffn: { ...DENSE.ffn, activation: "gelu_exact" } }, precision] as const,
    [
      { ...DENSE, attention: { kind: "mha", num_heads: 4, num_kv_heads: 2, d_rope: 4 } },
      precision,
    ] as const,
    [{
      ...DENSE,
      attention: { kind: "mha", num_heads: 2, bias: false, dropout: 0.1 },
      trunk: { dropout: 0.1 },
    }, precision] as const,
  ]),
];

/** Training, evaluation and decoding of a whole model. */
function network(gpu: Gpu, changes: ModelChanges, precision: "f32" | "mixed"): Plan[] {
  const architecture = changedModel(SMALL, changes);
  const weights = new Weights(gpu, weightSpecs(architecture), { train: true, precision });
  const sizes = { batch: 2, length: 16 };
  const tensors = {
    tokens: t("tokens", [32], "u32"),
    targets: t("targets", [32], "u32"),
    losses: t("losses", [32]),
    control: t("control", [CONTROL.length]),
    loss: t("loss", [LOSS.length]),
  };
  const plans: Plan[] = [];
  const plan = (label: string) => {
    const made = new Plan(gpu, label);
    plans.push(made);
    return made;
  };
  for (const first of [true, false]) {
    const context = new LayerContext(plan("train"), weights, {
      ...sizes,
      mode: "train",
      accumulate: !first,
      microBatches: 2,
      dropout: { seed: 1, control: tensors.control, key: t("key", [DROPOUT_KEY], "u32") },
    });
    recordTraining(context, architecture, { ...tensors, first });
  }
  const evaluation = plan("evaluate");
  const { uses } = recordEvaluation(
    new LayerContext(evaluation, weights, { ...sizes, mode: "evaluate" }),
    architecture,
    tensors,
  );
  for (const { experts, index, statistics } of uses.values()) {
    const counts = t("counts", [experts], "u32");
    countUsage(evaluation, "usage", { index, targets: tensors.targets, counts });
    statistics?.();
  }
  // Few tokens, and enough for products.
  for (const length of [4, 64]) {
    const context = new LayerContext(plan("decode"), weights, {
      batch: 1,
      length,
      mode: "evaluate",
    });
    const dtype = context.operandType;
    recordDecoding(context, architecture, {
      tokens: t("tokens", [length], "u32"),
      position: t("position", [1], "u32"),
      row: t("row", [1], "u32"),
      decoders: decoders(architecture, { capacity: 300, dtype }),
    });
  }
  weights.destroy();
  return plans;
}

/** Allocates the weights of the networks, which are recorded for other devices than this one. */
const memory = await openGpu();

const kernels: readonly RecordedKernel[] = DEVICE_PROFILES.flatMap((profile) =>
  recordKernels(profile, (gpu) => [
    ...Object.values(RECORDINGS).flatMap((record) => record(gpu)),
    ...NETWORKS.flatMap(([options, precision]) => network(gpu, options, precision)),
  ], { memory })
);
memory.close();

/** Files that kernels include, by what the names of those kernels begin with. */
const INCLUDED = new Map([
  ["attention_blocks", "attention_forward_blocked"],
  ["attention_tiles", "attention_forward_matrix"],
  ["bitonic", "beam_"],
  ["compressed_weights", "gemm_"],
  ["insertion_direct", "beam_candidates_direct"],
  ["dropout", "dropout_rows"],
  ["experts_entry", "segment_sum"],
  ["experts_quarter_sums", "experts_apply_subgroup"],
  ["experts_stored_entry", "segment_sum"],
  ["gelu", "gemm_"],
  ["gelu_exact", "mixture_activate"],
  ["gemm_epilogue", "gemm_"],
  ["gemm_steps", "gemm_tiled"],
  ["gemm_tile", "gemm_tiled"],
  ["rows", "rmsnorm_"],
]);

/** Names of all shader files, without their folders. */
const stems: string[] = [];
const shaders = new URL("../../shaders/", import.meta.url);
for (const group of Deno.readDirSync(shaders)) {
  for (const { name } of Deno.readDirSync(new URL(`${group.name}/`, shaders))) {
    stems.push(name.replace(/\.wgsl$/, ""));
  }
}

for (const profile of DEVICE_PROFILES) {
  const { name, runtime, capabilities } = profile;
  Deno.test(`Every shader is part of a kernel for ${name} (${runtime})`, () => {
    const names = kernels.filter((k) => k.profile === profile).map(({ name }) => name);
    // Kernels for other kinds of devices: software adapters, GPUs, those with subgroups or matrix units. Blocks need more workgroup memory than
    // WebGPU guarantees.
    const other = capabilities.software
      ? /_tiled$|_blocked$|_matrix$|_subgroup$|^attention_(blocks|tiles|keys|key_gradient|merge)$|^compressed_vector$|^experts_quarter_sums$|^gemm_(reduce|steps|tile|vector)$|^latent_softmax$/
      : capabilities === WEBGPU_DEFAULTS
      ? /_direct$|_blocked$|_matrix$|_subgroup$|^attention_(blocks|tiles)$|^experts_quarter_sums$/
      : capabilities.subgroup_matrix.length > 0
      ? /_direct$|^sort_scatter$/
      : /_direct$|_matrix$|^attention_tiles$|^sort_scatter$/;
    const missing: string[] = [];
    for (const stem of stems) {
      const host = INCLUDED.get(stem);
      const found = names.some((n) => n === stem || (host && n.startsWith(host)));
      if (found === other.test(stem)) missing.push(stem);
    }
    assertEquals(missing, []);
  });
}

Deno.test("Every kernel for Dawn compiles under tint, and keeps to WebGPU's defaults where it should", async () => {
  const findings = await validateKernels(
    kernels.filter(({ profile }) => profile.runtime === "dawn"),
  );
  assert(findings.length > 0);
  assertEquals(findings.filter(({ messages }) => messages.length > 0), []);
});

Deno.test("Every kernel for Deno compiles under naga", async () => {
  const gpu = await openGpu();
  const { f16, subgroups } = gpu.capabilities;
  const wrong: string[] = [];
  let compiled = 0;
  for (const { label, source, profile } of kernels) {
    if (profile.runtime !== "deno") continue;
    // An adapter without a feature has naga refuse it, whatever the text.
    if ((profile.capabilities.f16 && !f16) || (profile.capabilities.subgroups && !subgroups)) {
      continue;
    }
    compiled++;
    gpu.device.pushErrorScope("validation");
    gpu.device.createShaderModule({ label, code: source });
    const error = await gpu.device.popErrorScope();
    if (error) wrong.push(`${label}: ${error.message}`);
  }
  gpu.close();
  assert(compiled > 0);
  assertEquals(wrong, []);
});

/**
 * Recordings of products, elementwise operations, norms, the loss and the optimiser.
 *
 * @module
 */

import { Plan } from "../../gpu/plan.ts";
import { roundUp, type Tensor } from "../../gpu/tensor.ts";
import { CONTROL, LOSS, METRICS, METRICS_RING, SCHEDULE } from "../control.ts";
import { DROPOUT_KEY } from "../dropout/dropout.ts";
import { addResidual } from "../elementwise/add_residual.ts";
import { CHOICE_FIELDS, chooseToken, CHOSEN_WORDS, seenWords } from "../decoding/choose_token.ts";
import { ASKED_WORDS, foundWords, likeliest } from "../decoding/likeliest.ts";
import { castInto } from "../elementwise/cast.ts";
import { columnSums } from "../elementwise/column_sums.ts";
import { copyThrough, copyVariants } from "../elementwise/copy.ts";
import { countTargets, crossEntropy } from "../elementwise/cross_entropy.ts";
import { embeddingBackward, embeddingForward } from "../elementwise/embedding.ts";
import { geluBackward, geluForward } from "../elementwise/gelu.ts";
import { swigluBackward, swigluForward } from "../elementwise/swiglu.ts";
import { type Epilogue, gemm } from "../gemm/gemm.ts";
import { matrix, transpose } from "../gemm/matrix.ts";
import { layernormBackward, layernormForward } from "../norm/layernorm.ts";
import { NormGains } from "../norm/norm_gains.ts";
import { rmsnormBackward, rmsnormForward } from "../norm/rmsnorm.ts";
import { initializeNormal, initializeUniform } from "../optimizer/initialize.ts";
import { recordUpdate, sumInto } from "../optimizer/optimizer.ts";
import { sortByKey } from "../routing/sort.ts";
import { type Recordings, unallocated as t } from "../testing.ts";

const EPILOGUES: readonly Epilogue[] = ["none", "add", "accumulate", "gelu", "gelu_backward"];

/** Operations that a dense model has beside its attention. */
export const DENSE_RECORDINGS: Recordings = {
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
  embedding(gpu) {
    const plan = new Plan(gpu, "embedding");
    for (const dtype of ["f32", "f16"] as const) {
      const tokens = t("tokens", [32], "u32");
      const parts = [t("table.0", [64, 32], dtype), t("table.1", [36, 32], dtype)];
      embeddingForward(plan, "embedding", { tokens, parts, x: t("x", [32, 32], dtype) });
    }
    // More keys than one subgroup sorts on a software adapter.
    sortByKey(plan, "sort", { keys: t("many", [1 << 16], "u32"), bound: 512 });
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
  likeliest(gpu) {
    const plan = new Plan(gpu, "likeliest");
    const asked = t("asked", [8, ASKED_WORDS], "u32");
    const found = t("found", [8, foundWords(20)], "u32");
    likeliest(plan, "likeliest", { logits: t("logits", [8, 100]), asked, found }, {
      vocabulary: 99,
    });
    return [plan];
  },
  choose_token(gpu) {
    const plan = new Plan(gpu, "choose_token");
    chooseToken(plan, "choose", {
      logits: t("logits", [1, 100]),
      options: t("options", [1, CHOICE_FIELDS.length]),
      seen: t("seen", [1, seenWords(99)], "u32"),
      token: t("token", [1], "u32"),
      chosen: t("chosen", [1, CHOSEN_WORDS], "u32"),
    }, { vocabulary: 99 });
    return [plan];
  },
  cross_entropy(gpu) {
    const plan = new Plan(gpu, "cross-entropy");
    // Rows that a software adapter's lanes share, and whole ones; rows that are too long for it.
    for (
      const [vocabulary, dtype] of [
        [99, "f32"],
        [99, "f16"],
        [512, "f32"],
        [2001, "f32"],
        [2001, "f16"],
      ] as const
    ) {
      const tensors = {
        logits: t("logits", [32, roundUp(vocabulary, 4)], dtype),
        targets: t("targets", [32], "u32"),
        losses: t("losses", [32]),
      };
      const options = { vocabulary, rows: 32, first: 0 };
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
    // Rows that the lanes of a software adapter share, the last vectors of some of them too, and rows that are too long for it.
    for (
      const [width, dtype] of [[64, "f32"], [64, "f16"], [40, "f32"], [1024, "f32"]] as const
    ) {
      const [x, y, dy, dx] = ["x", "y", "dy", "dx"].map((name) => t(name, [32, width], dtype)) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      const gain = t("gain", [width]);
      const scale = t("scale", [32]);
      const dgain = { tensor: t("dgain", [width]), epilogue: "none" } as const;
      rmsnormForward(plan, "norm", { x, y, gain, scale });
      const gains = new NormGains(plan);
      for (const epilogue of ["none", "accumulate"] as const) {
        rmsnormBackward(plan, "norm", { x, dy, dx, gain, scale, dgain, epilogue });
        rmsnormBackward(plan, "norm", {
          ...{ x, dy, dx, gain, scale, gains },
          dgain: { tensor: t("joined", [width]), epilogue },
        });
      }
      gains.finish();
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

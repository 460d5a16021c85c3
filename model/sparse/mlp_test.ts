import { assertEquals, assertRejects } from "@std/assert";
import { runPlan } from "../gpu/build.ts";
import { Plan } from "../gpu/plan.ts";
import { openTestGpu } from "../gpu/testing.ts";
import { assertNear, noise } from "../ops/testing.ts";
import { gelu, geluExact, silu } from "../reference/activation.ts";
import { matmul, type Matrix, matrix, transpose, zip } from "../reference/matrix.ts";
import { applySite, expandSite, routeSite } from "../reference/sparse/expansion.ts";
import { type DenseMlp, ExpandedMlp, expandMlp } from "./mlp.ts";
import { PRUNING } from "./options.ts";
import { Tensors, unpadColumns, uploadRows } from "./rows.ts";
import { siteSeed, uniform } from "./routing/uniform.ts";

const [ROWS, D, F] = [120, 10, 15];
const expansion = { clusters: 3, pca_factor: 5, restarts: 2, max_iterations: 50 };
const pruning = { ...PRUNING, sparsity: 0.5, block: 8 };
const [seed, block] = [9, 4];

/** Rows plus a bias. */
const biased = (x: Matrix, bias: Float64Array) =>
  matrix(x.rows, x.columns, x.data.map((v, i) => v + bias[i % x.columns]!));

/** An MLP of which float64 says what it does. */
function example(activation: DenseMlp["activation"]) {
  const w = (out: number, inputs: number, of: number) =>
    matrix(out, inputs, noise(out * inputs, of));
  const [gate, up, down] = [w(F, D, 1), w(F, D, 2), w(D, F, 3)];
  const biases = { up: noise(F, 4), down: noise(D, 5) };
  const act = activation === "gelu" ? geluExact : gelu;
  /** The rows behind the activation, of products with the matrices of the first site. */
  const inner = (product: (name: string) => Matrix) => {
    if (activation === "swiglu") return zip(product("gate"), product("up"), (g, u) => silu(g) * u);
    const h = biased(product("up"), biases.up);
    return matrix(h.rows, F, h.data.map(act));
  };
  const x = matrix(
    ROWS,
    D,
    noise(ROWS * D, 6).map((v, i) => Math.fround(v + Math.sin(i / D % 3 | 0) + (i % 7) / 5)),
  );
  const dense = inner((name) => matmul(x, transpose(name === "gate" ? gate : up)));
  const draw = (site: 0 | 1) => (index: number) => uniform(siteSeed(seed, block, site), index);
  const first = expandSite(x, activation === "swiglu" ? { gate, up } : { up }, {
    expansion,
    pruning,
    uniform: draw(0),
  });
  const second = expandSite(dense, { down }, { expansion, pruning, uniform: draw(1) });
  const apply = (rows: Matrix) => {
    const h = inner((name) => applySite(first, name, rows));
    const y = applySite(second, "down", h);
    return {
      y: activation === "swiglu" ? y : biased(y, biases.down),
      labels: { in: routeSite(first, rows), mid: routeSite(second, h) },
    };
  };
  return { gate, up, down, biases, x, dense, apply };
}

for (const activation of ["swiglu", "gelu", "gelu_tanh"] as const) {
  Deno.test(`an MLP with ${activation} is expanded as float64 does`, async () => {
    const gpu = await openTestGpu();
    using tensors = new Tensors(gpu);
    const { gate, up, down, biases, x, dense, apply } = example(activation);
    const on = (name: string, { data, columns }: Matrix) => tensors.matrix(name, data, columns);
    const matrices = { up: on("up", up), down: on("down", down) };
    const rows = (of: Matrix) => uploadRows(tensors, of.data, { width: of.columns, gpu, most: 64 });
    const experts: string[] = [];
    const stored = await expandMlp(
      gpu,
      activation === "swiglu"
        ? { activation, gate: on("gate", gate), ...matrices }
        : { activation, ...matrices, biases },
      {
        rows: { in: rows(x), mid: rows(dense) },
        expansion,
        pruning,
        seed,
        block,
        onExpert: ({ layer, cluster }) => void experts.push(`${layer} ${cluster}`),
      },
    );
    using mlp = new ExpandedMlp(gpu, stored);
    const first = activation === "swiglu" ? ["gate", "up"] : ["up"];
    assertEquals(experts, [
      ...[0, 1, 2].flatMap((j) => first.map((layer) => `${layer} ${j}`)),
      ...[0, 1, 2].map((j) => `down ${j}`),
    ]);
    const test = matrix(21, D, noise(21 * D, 8));
    const plan = new Plan(gpu, "test");
    const { y, labels } = mlp.record(plan, on("test", test));
    const stream = on("stream", matrix(21, D, noise(21 * D, 9)));
    const sum = mlp.record(plan, on("test", test), { residual: stream }).y;
    const found = await runPlan(plan, { y, sum, stream, ...labels });
    const expected = apply(test);
    assertEquals([...found.in], [...expected.labels.in]);
    assertEquals([...found.mid], [...expected.labels.mid]);
    assertNear(unpadColumns(found.y, D), expected.y.data, { tolerance: 1e-4, what: activation });
    const what = `${activation} and the residual`;
    assertNear(found.sum, found.stream.map((v, i) => v + found.y[i]!), { tolerance: 1e-6, what });
  });
}

Deno.test("an MLP names the block and the site whose rows are wrong", async () => {
  const gpu = await openTestGpu();
  using tensors = new Tensors(gpu);
  const { up, down, x } = example("gelu");
  const on = (name: string, { data, columns }: Matrix) => tensors.matrix(name, data, columns);
  const rows = uploadRows(tensors, x.data, { width: D, gpu });
  const wrong = uploadRows(tensors, new Float64Array(ROWS * F).fill(NaN), { width: F, gpu });
  await assertRejects(
    () =>
      expandMlp(gpu, { activation: "gelu", up: on("up", up), down: on("down", down) }, {
        rows: { in: rows, mid: wrong },
        expansion,
        pruning,
        seed,
        block,
      }),
    RangeError,
    "block 4 mid: A row has a number that is not finite",
  );
});

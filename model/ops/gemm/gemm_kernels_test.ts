import { assertEquals } from "@std/assert";
import { DEVICE_PROFILES } from "../../gpu/recording.ts";
import { type ProductShape, productWay } from "./gemm_kernels.ts";

Deno.test("productWay() goes by sizes, layout and what the device has", () => {
  const [deno, dawn] = DEVICE_PROFILES.slice(-2).map(({ capabilities }) => capabilities);
  const halves = { dtype: "f16", aligned: true } as const;
  const shape = { layout: "nn", a: halves, b: halves, linear: true, single: false } as const;
  const way = (capabilities: typeof deno, product: ProductShape) => {
    const { kernel: { units, tile_m, tile_n }, splits, transposed } = productWay(
      capabilities!,
      product,
    );
    return [
      transposed ? "transposed" : product.layout,
      units ? "matrix units" : "tiles",
      `${tile_m}×${tile_n}`,
      splits,
    ];
  };
  const large = { ...shape, m: 32768, n: 1024, k: 4096 };
  assertEquals(way(deno, large), ["transposed", "tiles", "128×128", 1]);
  assertEquals(way(dawn, large), ["nn", "matrix units", "128×128", 1]);
  // Both operands are stored K-major already.
  assertEquals(way(deno, { ...large, layout: "tn" }), ["tn", "tiles", "128×128", 1]);
  // Few tiles of long sums.
  const long = { ...shape, m: 512, n: 128, k: 262144, layout: "tn" } as const;
  assertEquals(way(dawn, long), ["tn", "matrix units", "128×128", 62]);
  const small = { ...shape, m: 64, n: 64, k: 64 };
  assertEquals(way(deno, small), ["nn", "tiles", "64×64", 1]);
  // Few columns take high tiles.
  assertEquals(way(deno, { ...small, m: 8192 }), ["nn", "tiles", "128×64", 1]);
  assertEquals(way(deno, { ...small, m: 16384 }), ["nn", "tiles", "256×64", 1]);
  assertEquals(way(dawn, { ...small, m: 16384 }), ["nn", "matrix units", "128×64", 1]);
});

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { compare } from "../../ablate/ablate.ts";
import { latentPoints } from "../ablation.ts";
import { reportSchema } from "../config.ts";
import { readInputs } from "../data.ts";
import { composeReport } from "../report.ts";
import { madeUpInputs, madeUpNode } from "../report_testing.ts";
import { fitLimit, type LatentLaw, latentLaw } from "../theory/latent_law.ts";
import { conclusion } from "./latent_law.ts";

const SEEDS = [1, 2, 3];
const MODELS = [32, 64, 128];
const LATENTS = [4, 8, 16, 32, 64];

/** A run of a grid whose loss is 0.02 nats above its limit at a latent width of `d_model / 4`. */
function inputs(vary: readonly string[] = ["d_model", "d_latent"]) {
  const cells = MODELS.flatMap((d_model) =>
    LATENTS.map((d_latent) => ({
      name: `d_model=${d_model},d_latent=${d_latent}`,
      base: d_model === 64 && d_latent === 16,
      factors: Object.fromEntries(
        Object.entries({ d_model, d_latent }).filter(([name]) => vary.includes(name)),
      ),
    }))
  );
  const runs = cells.flatMap((cell, i) =>
    SEEDS.map((seed) => {
      const [d_model, d_latent] = [MODELS[Math.floor(i / 5)]!, LATENTS[i % 5]!];
      const noise = 0.001 * ((7 * i + 5 * seed) % 3 - 1);
      return {
        cell: cell.name,
        seed,
        metrics: { nats: 4 + 0.1 * seed + 0.02 * d_model / 4 / d_latent + noise },
      };
    })
  );
  const factors = [{
    name: "d_model-d_latent",
    title: "widths",
    values: cells.map(({ name }) => ({ value: name, cell: name })),
  }];
  const ablation = compare(
    { cells, factors, runs: runs.map(({ cell, seed }) => ({ cell, seed })) },
    runs,
  );
  return {
    ...madeUpInputs(),
    evaluate: runs.map(({ cell, seed, metrics }) =>
      madeUpNode("evaluate", {
        name: `evaluate[${cell},seed=${seed}]`,
        labels: { cell, seed, base: cells.find(({ name }) => name === cell)!.base },
        json: {
          evaluation: {
            split: "validation",
            tokens: 1000,
            bytes: 2000,
            ...metrics,
            perplexity: 60,
            bits_per_byte: 2,
            layers: [],
          },
        },
      })
    ),
    ablate: [madeUpNode("ablate", {
      json: { ablation: JSON.parse(JSON.stringify(ablation)) },
      measured: { measured: [] },
    })],
  };
}

Deno.test("a grid of both widths gets a section with its fits, its figure and its law", async () => {
  const data = await readInputs(inputs());
  assertEquals(latentPoints(data).length, 45);
  const { files } = await composeReport(data, reportSchema.parse({}));
  const markdown = String(files.get("report.md"));
  assertStringIncludes(markdown, "## Latent width and model width");
  const law = latentLaw(latentPoints(data), { tolerance: 0.02 })!;
  assert(Math.abs(law.law!.exponent - 1) < 0.15, String(law.law!.exponent));
  assertStringIncludes(markdown, conclusion(law));
  const { low, high } = law.interval!;
  assertStringIncludes(
    markdown,
    `| no number; judged: more than 0 | ${Number(law.law!.exponent.toPrecision(3))} (95 %: ${
      Number(low.toPrecision(3))
    } to ${Number(high.toPrecision(3))}): exponent of d\\_model | holds |`,
  );
  assertStringIncludes(markdown, "Every combination of the factors. Left:");
  const csv = String(files.get("figures/latent_law.csv"));
  for (const panel of ["loss", "curve", "enough", "sufficient", "law"]) {
    assertStringIncludes(csv, `\n${panel},`.slice(panel === "loss" ? 1 : 0));
  }
  const out = Deno.env.get("ETHOS_KEEP_FIGURE");
  if (out !== undefined) {
    await Deno.writeFile(out, files.get("figures/latent_law@2x.png") as Uint8Array);
  }
});

Deno.test("the tolerance of the configuration is the one that is used", async () => {
  const data = await readInputs(inputs());
  const { files } = await composeReport(data, reportSchema.parse({ latent_tolerance: 0.04 }));
  assertStringIncludes(String(files.get("report.md")), "is 0.04 nats above its limit");
});

Deno.test("an ablation of one width has no such section", async () => {
  const data = await readInputs(inputs(["d_latent"]));
  const { files } = await composeReport(data, reportSchema.parse({}));
  assert(!String(files.get("report.md")).includes("Latent width and model width"));
  assertStringIncludes(String(files.get("report.md")), "One factor at a time around the base");
  assert(!files.has("figures/latent_law.csv"));
});

Deno.test("the conclusion says no more than the interval", () => {
  const fit = fitLimit([4, 8, 16].map((x) => ({ x, y: 3 + 1 / x })));
  const width = { d_model: 32, losses: [], fit, interval: undefined };
  const law: LatentLaw = {
    tolerance: 0.02,
    seeds: [1, 2],
    widths: [
      { ...width, sufficient: { state: "measured", width: 8 } },
      { ...width, d_model: 64, sufficient: { state: "measured", width: 12 } },
    ],
    law: { factor: 1, exponent: 0.58 },
    interval: { low: 0.2, high: 0.9 },
    fitted: 1,
  };
  const said = (more: Partial<LatentLaw>) => conclusion({ ...law, ...more });
  assertStringIncludes(said({}), "more slowly than in proportion");
  assertStringIncludes(said({ interval: { low: 0.2, high: 1.4 } }), "is not ruled out");
  assertStringIncludes(said({ interval: { low: -0.2, high: 1.4 } }), "too wide an interval");
  assertStringIncludes(said({ interval: { low: -0.2, high: 0.8 } }), "no growth was shown");
  assertStringIncludes(said({ interval: { low: -0.9, high: -0.1 } }), "narrower codes");
  assertStringIncludes(said({ interval: undefined, fitted: 0.8 }), "20 % of the resamples");
  assertStringIncludes(said({ seeds: [1], interval: undefined }), "a single seed");
  const flat = { ...width, sufficient: { state: "flat" } } as const;
  assertStringIncludes(
    said({ law: undefined, interval: undefined, widths: [flat, { ...flat, d_model: 64 }] }),
    "it is flat there, and tells no width. A width could be told at fewer",
  );
});

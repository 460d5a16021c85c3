/**
 * "Latent width and model width": section 8.5 of the paper, where an ablation varies both.
 *
 * @module
 */

import { latentLawFigure } from "../figures/latent_law.ts";
import { type LatentLaw, latentLaw, type WidthResult, widthsAbove } from "../theory/latent_law.ts";
import { latentPoints } from "../ablation.ts";
import { type Block, md, type Section } from "../document.ts";
import { fixed, whole } from "../facts.ts";
import type { SectionContext } from "./context.ts";

/** The section, when a grid varied both widths; none otherwise. */
export async function latentLawSections(context: SectionContext): Promise<Section[]> {
  const { data, figures, latentTolerance } = context;
  const law = latentLaw(latentPoints(data), { tolerance: latentTolerance });
  if (law === undefined) return [];
  const blocks: Block[] = [
    md`How wide does a latent code have to be as the model's width grows (section 8.5 of the paper)? For each model width the held-out loss is fitted by \`L∞ + c · d_latent^−α\`, least squares on the means over seeds. A latent width *suffices* where that curve is ${
      String(law.tolerance)
    } nats above its limit. The law is the straight line through the logarithms of these widths.`,
    await figures.add(latentLawFigure(law), {
      from: [data.ablation, ...data.models],
      caption: md`Dots: means over the seeds ${
        law.seeds.join(", ")
      }, with 95 % t-intervals once a seed's mean over the panel is taken off. Dashed: fits. Dotted: ${
        String(law.tolerance)
      } nats above the limit. Diamonds: where the fit meets it, with bootstrap intervals over seeds.${
        widthsAbove(law).length > 0 ? " Triangles: the widest code that was trained." : ""
      }`,
    }),
    table(law),
    md`${conclusion(law)}`,
    md`**Falsified by:** a wider range of model widths whose exponent lies outside of the interval. The models are trained for equally many tokens, so a wider one is further from its own limit. ${
      law.seeds.length > 1
        ? `A bootstrap over ${law.seeds.length} seeds is short by about a factor of √(${law.seeds.length}/${
          law.seeds.length - 1
        }).`
        : ""
    }`,
  ];
  return [{ id: "latent-law", title: "Latent width and model width", blocks }];
}

function table({ widths, tolerance }: LatentLaw): Block {
  return {
    kind: "table",
    title: `Fits, and the latent width that is within ${tolerance} nats of the limit`,
    header: ["d_model", "limit L∞", "c", "α", "residual, nats", "latent width", "95 % over seeds"],
    rows: widths.map((each) => [
      whole(each.d_model),
      each.fit.unlimited ? "none shown" : fixed(each.fit.limit, 3),
      each.fit.unlimited ? "" : fixed(each.fit.scale, 3),
      each.fit.unlimited || each.fit.scale === 0 ? "" : fixed(each.fit.exponent, 2),
      fixed(each.fit.rmse, 4),
      sufficientText(each),
      each.interval === undefined
        ? ""
        : `${fixed(each.interval.low, 1)} to ${fixed(each.interval.high, 1)}`,
    ]),
    numbersFrom: 1,
  };
}

function sufficientText({ sufficient, losses }: WidthResult): string {
  switch (sufficient.state) {
    case "measured":
      return fixed(sufficient.width, 1);
    case "flat":
      return "not told: flat";
    case "above":
      return `more than ${losses.at(-1)!.d_latent}`;
  }
}

/** The conclusion that the interval allows, and no more. */
export function conclusion(all: LatentLaw): string {
  const { law, interval, widths, fitted, seeds } = all;
  const flat = widths.filter(({ sufficient }) => sufficient.state === "flat");
  const beyond = widthsAbove(all);
  const names = (some: readonly WidthResult[]) => some.map(({ d_model }) => d_model).join(", ");
  const outside = [
    flat.length === 0
      ? ""
      : `At d_model ${
        names(flat)
      } the curve falls by no more than the tolerance over all latent widths: it is flat there, and tells no width. `,
    beyond.length === 0
      ? ""
      : `At d_model ${
        names(beyond)
      } the widest code does not suffice: the curve still falls, and shows no limit. `,
  ].join("");
  if (law === undefined) {
    return `${outside}A width could be told at fewer than two model widths, so there is no exponent.`;
  }
  const points = widths.length - flat.length - beyond.length;
  const found = `${outside}The exponent is ${fixed(law.exponent, 2)} over ${points} model widths`;
  if (seeds.length < 2) return `${found}; a single seed gives no interval.`;
  if (interval === undefined) {
    return `${found}, and no interval can be given: ${
      fixed(100 * (1 - fitted), 0)
    } % of the resamples of the seeds put a width outside of the measured ones. Nothing is shown.`;
  }
  const range = `${fixed(interval.low, 2)} to ${fixed(interval.high, 2)}`;
  const { low, high } = interval;
  if (beyond.length > 0) {
    return `${found}, 95 % over seeds ${range}. It leaves out the model widths that need wider codes than were measured, so it says nothing of growth: wider codes have to be trained there.`;
  }
  if (low <= 0 && high >= 1) {
    return `${found}, 95 % over seeds ${range}: too wide an interval to tell a constant width from one in proportion.`;
  }
  if (low <= 0) {
    return high < 0
      ? `${found}, 95 % over seeds ${range}: wider models need narrower codes here.`
      : `${found}, 95 % over seeds ${range}: no growth was shown; growth in proportion is ruled out.`;
  }
  return high >= 1
    ? `${found}, 95 % over seeds ${range}: the width grows, and growth in proportion is not ruled out.`
    : `${found}, 95 % over seeds ${range}: the width grows, and more slowly than in proportion.`;
}

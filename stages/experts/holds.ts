/**
 * The promises of the paper's section 8.2 beside what was found: each is decided by a figure and its control.
 *
 * @module
 */

import { summarise } from "../../model/interpret/information.ts";
import type { CodeEnd, ExpertFindings } from "./explore.ts";

/** One promise. */
export interface Promised {
  readonly promise: string;
  /** The figure, and its control. */
  readonly found: string;
  readonly control: string;
  /** Whether the figure is beyond its control; where a control varies, by three of its deviations. */
  readonly verdict:
    | "beyond the control"
    | "not beyond the control"
    | "in part"
    | "not tested";
}

/** Deviations that a figure must be beyond its control. */
const DEVIATIONS = 3;

function verdictOf(beyond: readonly boolean[]): Promised["verdict"] {
  if (beyond.length === 0) return "not tested";
  const some = beyond.some((each) => each);
  if (some && beyond.every((each) => each)) return "beyond the control";
  return some ? "in part" : "not beyond the control";
}

const list = <T>(values: readonly T[], show: (value: T) => string) =>
  values.length === 0 ? "–" : values.map(show).join("; ");
const percent = (part: number) => `${(100 * part).toFixed(1)} %`;

/** Each promise with its verdict. */
export function promises(findings: ExpertFindings): Promised[] {
  const { specialisation, clusters, ablation, errors, paths } = findings;
  const tokens = specialisation.filter(({ label }) => label === "token");
  const next = specialisation.filter(({ label }) => label === "target");
  const positions = specialisation.filter(({ label }) => label === "position");
  const information = (promise: string, found: typeof tokens): Promised => ({
    promise,
    found: list(found, ({ layer, plugin }) => `layer ${layer}: ${plugin.toFixed(3)} nats`),
    control: list(
      found,
      ({ shuffled }) => `${shuffled.mean.toFixed(3)} ± ${shuffled.deviation.toFixed(3)}`,
    ),
    verdict: verdictOf(
      found.map((each) => each.beyond_shuffled > DEVIATIONS * each.shuffled.deviation),
    ),
  });
  const effects = (promise: string, of: (name: string) => boolean): Promised => {
    const groups = ablation.edits.filter(({ name, controls }) => of(name) && controls.summary);
    const far = groups.filter(({ change, controls: { summary } }) =>
      Math.abs(change - summary!.mean) > DEVIATIONS * summary!.deviation
    );
    return {
      promise,
      found:
        `${far.length} of ${groups.length} change the loss by more than ${DEVIATIONS} deviations beyond random experts of equal use`,
      control: list(
        groups.toSorted((a, b) => b.change - a.change).slice(0, 1),
        ({ name, change, controls: { summary } }) =>
          `most: ${name} ${change.toFixed(5)}, random ${summary!.mean.toFixed(5)} ± ${
            summary!.deviation.toFixed(5)
          } nats`,
      ),
      verdict: verdictOf(groups.map((group) => far.includes(group))),
    };
  };
  const layers = [...new Set(paths.map(({ path }) => path.layer))];
  const ends = layers.map((layer) => {
    const of = (end: CodeEnd) => {
      const found = paths.filter((each) => each.path.layer === layer && each.end === end);
      return summarise(found.map(({ path }) => path.points.at(-1)!.divergence));
    };
    const { without } = paths.find(({ path }) => path.layer === layer)!.path;
    return { layer, near: of("near"), random: of("random"), without: without.divergence };
  });
  return [
    information("Attribution: experts go with tokens", tokens),
    {
      promise: "Attribution: experts know more of the next token than the token says",
      found: list(next, ({ layer, plugin }) => `layer ${layer}: ${plugin.toFixed(3)} nats`),
      control: list(
        next,
        ({ same_token }) =>
          `${same_token.mean.toFixed(3)} ± ${same_token.deviation.toFixed(3)} among the same token`,
      ),
      verdict: verdictOf(
        next.map((each) => each.beyond_same_token > DEVIATIONS * each.same_token.deviation),
      ),
    },
    information("Attribution: experts go with positions", positions),
    {
      promise: "Clustering: codes lie in clusters",
      found: list(
        clusters,
        ({ layer, explained }) => `layer ${layer}: ${percent(explained)} of the variance`,
      ),
      control: list(clusters, (each) => percent(each.explained_shuffled)),
      verdict: verdictOf(
        // A single control has no deviation; a tenth more than it counts.
        clusters.map((each) => each.explained > 1.1 * each.explained_shuffled),
      ),
    },
    {
      promise: "Maps: neighbours on a map share a cluster",
      found: list(
        clusters,
        ({ layer, map }) =>
          `layer ${layer}: UMAP ${percent(map.neighbours.umap)}, PCA ${
            percent(map.neighbours.pca)
          }`,
      ),
      control: list(
        clusters,
        ({ map: { neighbours_shuffled: { umap, pca } } }) =>
          `UMAP ${percent(umap)}, PCA ${percent(pca)} of shuffled codes`,
      ),
      verdict: verdictOf(
        clusters.map(({ map }) => map.neighbours.umap > 1.1 * map.neighbours_shuffled.umap),
      ),
    },
    {
      promise: "Interpolation: near codes act alike",
      found: list(
        ends,
        ({ layer, near }) =>
          `layer ${layer}: divergence ${
            near.mean.toExponential(1)
          } nats in the mean of the ${near.count} nearest codes`,
      ),
      control: list(
        ends,
        ({ random }) => `${random.mean.toExponential(1)} of ${random.count} random ones`,
      ),
      verdict: verdictOf(ends.map(({ near, random }) => near.mean < random.mean / 2)),
    },
    {
      promise: "Editing: an expert with another's code does something else than nothing",
      found: list(
        ends,
        ({ layer, random }) =>
          `layer ${layer}: divergence ${
            random.mean.toExponential(1)
          } nats with a random expert's code`,
      ),
      control: list(ends, ({ without }) => `${without.toExponential(1)} without the expert`),
      // A tenth more or less than leaving the expert out.
      verdict: verdictOf(
        ends.map(({ random, without }) => Math.abs(random.mean - without) > 0.1 * without),
      ),
    },
    effects("Ablation: single experts matter", (name) => !name.includes(":c")),
    effects("Ablation: clusters matter as clusters", (name) => name.includes(":c")),
    {
      promise: "Errors: some experts go with them",
      found: list(
        errors,
        ({ layer, above, experts }) =>
          `layer ${layer}: ${above} of ${experts} experts more than 3 standard errors above`,
      ),
      control: list(
        errors,
        ({ same_token: { above } }) =>
          `${above.mean.toFixed(1)} ± ${above.deviation.toFixed(1)} among the same token`,
      ),
      verdict: verdictOf(
        errors.map(({ above, same_token: { above: control } }) =>
          above > control.mean + DEVIATIONS * Math.max(control.deviation, 1)
        ),
      ),
    },
  ];
}

/**
 * The findings as files: `experts.json`, `report.html`, `report.md`, `report.pdf`, and the figures.
 *
 * @module
 */

import { join } from "@std/path";
import { formatTable } from "../../pipeline/terminal/table.ts";
import type { Chart } from "../report/figures/figure.ts";
import { type Block, md, type Section, type TableBlock } from "../report/document.ts";
import { composed, writeReport } from "../report/files.ts";
import { FigureList } from "../report/sections/context.ts";
import type { ExpertFindings, Explored } from "./explore.ts";
import { ablationFigure } from "./figures/ablation.ts";
import { codePathFigure, END_NAMES } from "./figures/code_path.ts";
import { expertMap } from "./figures/expert_map.ts";
import { expertRanks } from "./figures/expert_ranks.ts";
import { specialisationFigure } from "./figures/specialisation.ts";
import { trainingUse } from "./figures/training.ts";
import { promises } from "./holds.ts";
import { LABEL_NAMES } from "./specialisation.ts";
import type { Context } from "./use.ts";

/** Writes everything beside the trace. */
export async function writeFindings(explored: Explored, folder: string): Promise<void> {
  const { findings } = explored;
  const figures = new FigureList({ pngScale: 2 });
  const sections = await sectionsOf(explored, figures);
  const { checkpoint, predictions, text, kind } = findings;
  const report = await composed({
    title: `Experts of ${checkpoint}`,
    lead: md`A look inside a model of kind **${kind}** on ${count(predictions)} predictions of ${
      text.length === 1 ? text[0]! : `${text.length} files`
    }. Every finding stands beside a control: random experts of equal use, or shuffled assignments.`,
    sections,
    colophon:
      md`Made by \`deno task experts\` on ${findings.gpu.adapter} with the seed ${findings.seed}. \`experts.json\` has all numbers, \`trace.parquet\` an assignment a row, \`tokens.parquet\` a prediction a row. Licence: AGPL-3.0.`,
  }, figures);
  await writeReport(folder, report, { pdf: true });
  await Deno.writeTextFile(
    join(folder, "experts.json"),
    `${JSON.stringify(findings, null, 2)}\n`,
  );
}

/** The findings as text for a terminal. */
export function describeFindings(findings: ExpertFindings): string {
  return [
    formatTable(
      ["layer", "experts", "used", "by chance", "half of uses by"],
      findings.use.map((use) => [
        String(use.layer),
        large(use.experts),
        count(use.used),
        count(use.used_by_chance),
        count(use.half),
      ]),
    ),
    formatTable(
      ["promise of section 8.2", "verdict"],
      promises(findings).map(({ promise, verdict }) => [promise, verdict]),
    ),
  ].join("\n\n");
}

async function sectionsOf(explored: Explored, figures: FigureList): Promise<Section[]> {
  const { findings, used, text } = explored;
  const draw = (figure: Chart, caption: ReturnType<typeof md>) =>
    figures.add(figure, {
      caption,
      from: [{
        key: findings.key ?? "no node",
        provenance: { run: findings.checkpoint, adapter: findings.gpu.adapter },
      }],
    });
  const { specialisation, training, clusters, ablation, errors, paths } = findings;
  return [
    section("holds", "The promises of section 8.2", [
      md`The paper promises that experts can be attributed, clustered, mapped, interpolated, ablated and edited. A promise is taken to hold where the figure is beyond its control, by three deviations where a control varies.`,
      table(
        "Promises, figures and controls",
        ["promise", "found", "control", "verdict"],
        promises(findings).map((each) => [each.promise, each.found, each.control, each.verdict]),
      ),
    ]),
    section("use", "Use and coverage", [
      table(
        "Use of the experts on this text",
        [
          "layer",
          "experts",
          "kept by a token",
          "used",
          "used by chance",
          "half of uses by",
          "unevenness, nats",
        ],
        findings.use.map((use) => [
          String(use.layer),
          large(use.experts),
          String(use.kept),
          count(use.used),
          count(use.used_by_chance),
          count(use.half),
          use.unevenness === null ? "–" : use.unevenness.toFixed(3),
        ]),
        0,
      ),
      await draw(
        expertRanks(used),
        md`Even use would be a level line. Counts are of tokens that predict.`,
      ),
      ...(training.length > 1
        ? [
          await draw(
            trainingUse(training),
            md`Means over the layers with experts, on held-out text at each evaluation. The text of an evaluation is smaller than all experts need to be seen.`,
          ),
        ]
        : []),
    ]),
    section("contexts", "Contexts", [
      md`The contexts that activate an expert most, by its weight: the token between angle brackets. Experts of each layer are the most used ones, then those whose tokens differ most from the text's; specificity is that difference in nats, with Miller and Madow's correction.`,
      table(
        "Experts and their contexts",
        ["expert", "uses", "weight", "specificity", "tokens", "contexts"],
        findings.contexts.map((each) => [
          `${each.layer}:${each.expert}`,
          count(each.uses),
          each.mean_weight.toFixed(3),
          Number.isFinite(each.specificity) ? each.specificity.toFixed(2) : "–",
          each.tokens.slice(0, 3)
            .map(({ token, share }) => `${visible(token)} ${(100 * share).toFixed(0)} %`).join(
              ", ",
            ),
          each.contexts.slice(0, 2).map(inContext).join(" · "),
        ]),
      ),
    ]),
    section("specialisation", "Specialisation", [
      md`Mutual information of a kept expert and a label of its token. Estimates from counts are too high where experts are many; \`corrected\` has Miller and Madow's correction, \`shuffled\` gives each token the experts of another, \`same token\` does so among predictions from the same token, \`random\` gives each assignment the expert of another.`,
      await draw(
        specialisationFigure(specialisation),
        md`Means of ${findings.controls} controls each; only what is beyond \`shuffled\` is specialisation, and only what is beyond \`same token\` is more than the token says.`,
      ),
      table(
        "Mutual information, nats",
        [
          "layer",
          "label",
          "as counted",
          "corrected",
          "shuffled",
          "random",
          "beyond shuffled",
          "beyond same token",
        ],
        specialisation.map((each) => [
          String(each.layer),
          LABEL_NAMES[each.label],
          each.plugin.toFixed(4),
          each.corrected.toFixed(4),
          `${each.shuffled.mean.toFixed(4)} ± ${each.shuffled.deviation.toFixed(4)}`,
          `${each.random.mean.toFixed(4)} ± ${each.random.deviation.toFixed(4)}`,
          each.beyond_shuffled.toFixed(4),
          each.beyond_same_token.toFixed(4),
        ]),
        2,
      ),
    ]),
    ...(clusters.length === 0 ? [] : [
      section("clusters", "Clusters and maps", [
        md`Codes are clustered by k-means as they are; maps have the most used experts. The control shuffles each number of the codes among the experts.`,
        await draw(
          expertMap(clusters),
          md`Colours are clusters of the codes, not of the map: a map that mixes them shows that two dimensions do not hold them.`,
        ),
        table(
          "Clusters of codes",
          [
            "layer",
            "experts",
            "numbers of a code",
            "variance between clusters",
            "shuffled",
            "sizes",
          ],
          clusters.map((each) => [
            String(each.layer),
            count(each.experts),
            count(each.width),
            percent(each.explained),
            percent(each.explained_shuffled),
            each.clusters.map(({ experts }) => count(experts)).join(", "),
          ]),
        ),
      ]),
    ]),
    section("ablation", "Ablation", [
      md`Experts that are left out have the weight 0; the weights of a token's other experts stay. Names with \`c\` are clusters. Random experts are among the eight nearest in use. Run over ${
        count(ablation.tokens)
      } predictions; the loss of the model as it is, ${ablation.nats.toFixed(4)} nats.`,
      await draw(
        ablationFigure(ablation.edits),
        md`A point right of zero: predictions become worse. Of clusters, random experts come from all clusters.`,
      ),
      ...findings.strongest.map((each) =>
        md`Of ${
          count(each.tried)
        } experts of layer ${each.layer} that were left out alone, controls too, **${`${each.layer}:${each.expert}`}** matters most: ${
          signed(each.change)
        } nats with ${count(each.use)} uses.`
      ),
      table(
        "Effects of leaving experts out",
        ["group", "uses", "change, nats", "of its tokens", "random", "token that changes most"],
        ablation.edits.map((group) => [
          group.name,
          count(group.use),
          signed(group.change),
          group.keepers.change === null ? "–" : signed(group.keepers.change),
          group.controls.summary
            ? `${signed(group.controls.summary.mean)} ± ${
              group.controls.summary.deviation.toFixed(5)
            }`
            : "–",
          group.by_token.slice(0, 1)
            .map(({ token, change }) => `${visible(text(token))} ${signed(change)}`).join(", "),
        ]),
      ),
    ]),
    section("errors", "Errors", [
      md`Experts whose tokens are predicted worse than the same next tokens are elsewhere: the loss less the mean loss of that token. Experts go with the token before, and so with how hard what follows is; the control \`same token\` shuffles assignments among predictions from the same token. A standard error takes an expert's tokens for independent.`,
      table(
        "Experts beyond three standard errors",
        [
          "layer",
          "experts",
          "above",
          "shuffled",
          "same token",
          "below",
          "shuffled",
          "same token",
          "largest z",
          "same token",
        ],
        errors.map((each) => [
          String(each.layer),
          count(each.experts),
          count(each.above),
          each.shuffled.above.mean.toFixed(1),
          each.same_token.above.mean.toFixed(1),
          count(each.below),
          each.shuffled.below.mean.toFixed(1),
          each.same_token.below.mean.toFixed(1),
          each.largest.toFixed(2),
          each.same_token.largest.mean.toFixed(2),
        ]),
        0,
      ),
      table(
        "Experts most associated with errors",
        ["expert", "tokens", "excess loss, nats", "z"],
        errors.flatMap(({ worst }) =>
          worst.slice(0, 5).map((each) => [
            `${each.layer}:${each.expert}`,
            count(each.uses),
            signed(each.excess, 3),
            each.z.toFixed(2),
          ])
        ),
        1,
      ),
    ]),
    ...(paths.length === 0 ? [] : [
      section("paths", "Between codes", [
        md`The code of the expert that matters most alone moves in a straight line to another's, in the context that activates it most. The router stays, so this is also an edit: the end of a path is the expert with another's code.`,
        await draw(
          codePathFigure(paths),
          md`Bend: distance of the output vector from the straight line between its ends, over their distance.`,
        ),
        table(
          "Predictions on the way",
          ["path", "at 0", "half-way", "at 1", "divergence at 1", "divergence without the expert"],
          paths.map(({ end, path }) => {
            const at = (share: number) => {
              const point = path.points[Math.round(share * (path.points.length - 1))]!;
              return point.best.slice(0, 2).map(({ token, probability }) =>
                `${visible(text(token))} ${(100 * probability).toFixed(1)} %`
              ).join(", ");
            };
            return [
              `${path.layer}:${path.from} ${END_NAMES[end]}, ${path.layer}:${path.to}`,
              at(0),
              at(0.5),
              at(1),
              path.points.at(-1)!.divergence.toExponential(2),
              path.without.divergence.toExponential(2),
            ];
          }),
        ),
      ]),
    ]),
  ];
}

function section(id: string, title: string, blocks: readonly Block[]): Section {
  return { id, title, blocks };
}

function table(
  title: string,
  header: readonly string[],
  rows: readonly (readonly string[])[],
  numbersFrom?: number,
): TableBlock {
  return {
    kind: "table",
    title,
    header,
    rows,
    ...(numbersFrom !== undefined && { numbersFrom }),
  };
}

/** White space as it can be seen. */
function visible(text: string): string {
  return `“${text.replaceAll("\n", "↵").replaceAll("\t", "⇥")}”`;
}

function inContext({ before, token, after }: Context): string {
  return `${before}⟨${token}⟩${after}`.replaceAll(/\s+/g, " ").trim();
}

const count = (value: number) => Math.round(value).toLocaleString("en");
/** Experts behind beams are too many for digits. */
const large = (value: number) => value < 1e9 ? count(value) : value.toExponential(2);
const percent = (part: number) => `${(100 * part).toFixed(1)} %`;
const signed = (value: number, digits = 5) =>
  `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

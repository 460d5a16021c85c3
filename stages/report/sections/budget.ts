/**
 * "The full budget": the time of the paper's 4 B tokens at the measured speed.
 *
 * @module
 */

import { bytesText, compact } from "../figures/series.ts";
import { evaluateFit, fitLog } from "../theory/fit.ts";
import { PAPER } from "../theory/paper.ts";
import { baseModels, curve, numberField, type TrainedModel } from "../data.ts";
import { type Block, md, type Section } from "../document.ts";
import { adapterOf, fixed, provenanceText, whole } from "../facts.ts";
import type { SectionContext } from "./context.ts";
import { comparesWithPaper } from "./equal_tokens.ts";

/** How fast the base trained. */
interface Throughput {
  /** Tokens a second as logged: median, tenth and ninetieth percentile. */
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** Seconds that the updates took. */
  readonly updates: number;
  /** Seconds that the nodes took in all; absent when not recorded. */
  readonly nodes: number | undefined;
  /** Largest device memory, bytes. */
  readonly memory: number | undefined;
}

/** The section, when a base model was trained and its speed measured; none otherwise. */
export function budgetSections(context: SectionContext): Section[] {
  const { data, facts } = context;
  const models = baseModels(data);
  const speed = throughput(models);
  if (facts === undefined || speed === undefined) return [];
  const adapter = adapterOf(models) ?? "an adapter that was not recorded";
  const runtime = provenanceText(models, "runtime");
  const beside = provenanceText(models, "beside");
  const size = facts.arithmetic.stored;
  const paperSize = context.paper.arithmetic.stored;
  const share = paperSize / size;
  const same = share > 0.67 && share < 1.5;
  const blocks: Block[] = [
    md`Training ran at ${whole(speed.median)} tokens a second on ${adapter}${
      runtime === undefined ? "" : ` (runtime ${runtime})`
    }${
      beside === undefined ? "" : `, beside ${beside} on the same cores`
    }: the median over what was logged, and ${whole(speed.low)} to ${
      whole(speed.high)
    } between the tenth and the ninetieth percentile.${
      speed.memory === undefined ? "" : ` It took ${bytesText(speed.memory)} of device memory.`
    }${
      speed.nodes === undefined
        ? ""
        : ` Of the ${whole(speed.nodes)} seconds of ${
          models.length === 1 ? "the node" : "the nodes"
        }, ${
          whole(speed.updates)
        } went into updates, the rest into compiling kernels, evaluations and checkpoints.`
    }`,
    timeTable(context, speed.median, same ? "this run" : "this run's model"),
    md`${
      same
        ? "The model has the paper's size."
        : `This run's model has ${compact(size)} stored parameters, not the paper's ${
          compact(paperSize)
        }, so its row is no forecast for the paper's model.`
    } The time is proportional to the tokens: evaluations, checkpoints, and whatever interrupts a long run come on top, and it takes for granted that the speed stays as it is while the use of the experts changes.${
      context.gpuHourPrice === undefined
        ? ""
        : ` Costs assume ${
          dollars(context.gpuHourPrice)
        } for an hour of one GPU, the same for every row (report.gpu_hour_price); electricity, people and failed attempts are not in it.`
    }${textNeeded(context)}`,
  ];
  if (comparesWithPaper(context)) blocks.push(...lossBlocks(context, models, speed.median));
  return [{ id: "budget", title: "The full budget", blocks }];
}

/** Hours and costs of the paper's tokens. */
function timeTable(context: SectionContext, rate: number, name: string): Block {
  const price = context.gpuHourPrice;
  const { first, later } = PAPER.tokensPerSecond;
  const row = (what: string, tokensPerSecond: number) => {
    const hours = PAPER.tokens / tokensPerSecond / 3600;
    return [
      what,
      whole(tokensPerSecond),
      fixed(tokensPerSecond / first, 2),
      fixed(hours, 1),
      ...price === undefined ? [] : [dollars(hours * price)],
    ];
  };
  return {
    kind: "table",
    title: `${compact(PAPER.tokens)} tokens on one GPU`,
    header: [
      "",
      "tokens/s",
      "of the paper's first",
      "hours",
      ...price === undefined ? [] : ["cost"],
    ],
    rows: [
      row(name, rate),
      row(`paper, first figure (${PAPER.device})`, first),
      row(`paper, later figure (${PAPER.device})`, later),
    ],
    numbersFrom: 1,
  };
}

/** How much more text it takes. */
function textNeeded(context: SectionContext): string {
  const unique = context.data.dataset?.result.splits.train.tokens;
  if (unique === undefined || unique <= 0 || unique >= PAPER.tokens) return "";
  return ` It also takes text: this run's ${compact(unique)} different tokens would be read ${
    whole(PAPER.tokens / unique)
  } times, and what is repeated more than about four times teaches little.`;
}

/** Where the fitted law would lead. */
function lossBlocks(
  context: SectionContext,
  models: readonly TrainedModel[],
  rate: number,
): Block[] {
  const { facts } = context;
  const points = models.flatMap((model) =>
    curve(model, "loss").filter((p) => p.step >= 1 && Number.isFinite(p.value))
      .map((p) => ({ x: p.step, y: p.value }))
  );
  const fit = fitLog(points);
  if (facts === undefined || fit === undefined) return [];
  const steps = PAPER.tokens / facts.tokensPerStep;
  const goal = Math.log(PAPER.perplexity);
  const paperSteps = PAPER.tokens / PAPER.tokensPerStep;
  const reach = (law: { a: number; b: number }, tokensPerStep: number) =>
    law.b > 0 ? Math.exp((law.a - goal) / law.b) * tokensPerStep : Infinity;
  const tokensText = (tokens: number) => tokens < 1e15 ? compact(tokens) : "more than 1000 T";
  const hoursText = (tokens: number, speed: number) => {
    const hours = tokens / speed / 3600;
    return hours < 1e6 ? fixed(hours, 1) : "more than a million";
  };
  const [own, theirs] = [reach(fit, facts.tokensPerStep), reach(PAPER.fit, PAPER.tokensPerStep)];
  return [
    {
      kind: "table",
      title: `Where each law leads: the paper reports ${fixed(goal, 2)} nats (perplexity ${
        fixed(PAPER.perplexity, 2)
      })`,
      header: ["law", `nats at ${compact(PAPER.tokens)} tokens`, "tokens to get there", "hours"],
      rows: [
        ["this run's", fixed(evaluateFit(fit, steps), 2), tokensText(own), hoursText(own, rate)],
        [
          "paper's",
          fixed(evaluateFit(PAPER.fit, paperSteps), 2),
          tokensText(theirs),
          hoursText(theirs, PAPER.tokensPerSecond.later),
        ],
      ],
      numbersFrom: 1,
    },
    md`This is arithmetic and no forecast. This run's law was fitted to steps ${
      whole(fit.from)
    } to ${whole(fit.to)} and is read here at step ${whole(steps)}, ${
      whole(steps / fit.to)
    } times beyond; a loss falls fastest at the beginning, so such a law promises too much, and below the entropy of text nothing can fall. **Falsified by:** the run itself, longer.`,
  ];
}

/** Speed over all rows of all base models. */
function throughput(models: readonly TrainedModel[]): Throughput | undefined {
  const rates = models.flatMap((m) => curve(m, "tokens_per_second").map(({ value }) => value))
    .filter((value) => value > 0).sort((a, b) => a - b);
  if (rates.length === 0) return undefined;
  const at = (share: number) => rates[Math.round(share * (rates.length - 1))]!;
  let updates = 0;
  for (const model of models) {
    let before = 0;
    for (const { step, value } of curve(model, "step_seconds")) {
      updates += (step - before) * value;
      before = step;
    }
  }
  // Of a node that was killed and resumed only the last attempt is told, which can be shorter than all updates.
  const seconds = models.map((m) => numberField(m.provenance, "seconds"));
  const nodes = seconds.reduce<number>((sum, s) => sum + (s ?? NaN), 0);
  const memory = models.flatMap((m) => curve(m, "memory_bytes").map(({ value }) => value));
  return {
    median: (at(0.5) + rates[Math.floor((rates.length - 1) / 2)]!) / 2,
    low: at(0.1),
    high: at(0.9),
    updates,
    nodes: nodes >= updates ? nodes : undefined,
    memory: memory.length === 0 ? undefined : memory.reduce((a, b) => Math.max(a, b)),
  };
}

function dollars(amount: number): string {
  return `$${
    amount.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })
  }`;
}

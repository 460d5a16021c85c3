/**
 * Which tensors of a plan are copied into textures, and when.
 *
 * A kernel says of a tensor that it is loaded often (`readOften`). That is a wish: a copy must save more than it costs, over all kernels that
 * read the tensor between two steps that write it, and over the tensors that kernels wish for together. The rule knows sizes alone, and loads give the
 * same numbers either way.
 *
 * @module
 */

import { type Plan, type Step, tensorsOf } from "./plan.ts";
import type { Tensor } from "./tensor.ts";
import { fitsTexels, Texels } from "./texels.ts";

/** A step with the copies that are made just before it. */
export interface PlacedStep {
  /** The step; a dispatch binds copies. */
  readonly step: Step;
  readonly copies: readonly Texels[];
}

/**
 * Costs in loads of a `vec4` by one invocation of llvmpipe, of which a copy saves 1.3 ns each: 10 µs for a copy, 0.5 ns for each `vec4` of it, and 17 µs
 * for a pass of dispatches that ends and goes on after it.
 */
const COST = { copy: 8000, vec4: 0.4, pass: 13000 };

/** A tensor between two steps that write it. */
interface Version {
  readonly tensor: Tensor;
  /** The first step before which it can be copied, 0 when no step wrote it before, and the last one, its first reader. */
  readonly from: number;
  readonly until: number;
  loads: number;
  /** The copy, and the step before which it is made. */
  placed?: { readonly texels: Texels; readonly at: number };
}

/** The versions of the tensors that a dispatch wishes for copies of, by the names of their bindings. */
type Wishes = Map<Step, Map<string, Version>>;

const placed = new WeakMap<Plan, { readonly steps: number; readonly result: PlacedStep[] }>();

/** The steps of a plan, with the copies that pay and the bindings that use them. Always the same objects for a plan that has no new steps. */
export function placeCopies(plan: Plan): readonly PlacedStep[] {
  const known = placed.get(plan);
  if (known?.steps === plan.steps.length) return known.result;
  const wishes = wishesOf(plan.steps);
  choose(plan.steps, wishes);
  const versions = new Set([...wishes.values()].flatMap((names) => [...names.values()]));
  const copies = Map.groupBy([...versions].flatMap(({ placed }) => placed ?? []), ({ at }) => at);
  const result = plan.steps.map((step, i): PlacedStep => ({
    step: step.kind === "dispatch" ? bindCopies(step, wishes) : step,
    copies: (copies.get(i) ?? []).map(({ texels }) => texels),
  }));
  placed.set(plan, { steps: plan.steps.length, result });
  return result;
}

function wishesOf(steps: readonly Step[]): Wishes {
  const wishes: Wishes = new Map();
  const written = new Map<Tensor, number>();
  const current = new Map<Tensor, Map<string, Version>>();
  for (const [i, step] of steps.entries()) {
    const bindings = step.kind === "dispatch" ? Object.entries(step.call.bindings) : [];
    const names = new Map<string, Version>();
    wishes.set(step, names);
    for (const [name, { tensor, loads }] of bindings) {
      if (loads === undefined || !fitsTexels(tensor)) continue;
      const { base } = tensor;
      let versions = current.get(base);
      if (!versions) current.set(base, versions = new Map());
      const range = `${tensor.start}+${tensor.bytes}`;
      let version = versions.get(range);
      if (!version) {
        const from = (written.get(base) ?? -1) + 1;
        versions.set(range, version = { tensor, from, until: i, loads: 0 });
      }
      version.loads += loads;
      names.set(name, version);
    }
    for (const { base } of writtenBy(step)) {
      written.set(base, i);
      current.delete(base);
    }
  }
  return wishes;
}

/** Gives copies to the versions for which they pay. */
function choose(steps: readonly Step[], wishes: Wishes): void {
  // Steps before which no pass of dispatches is under way.
  const ends = new Set(steps.keys().filter((i) => i === 0 || steps[i - 1]!.kind !== "dispatch"));
  for (const versions of groupsOf(wishes)) {
    const loads = versions.reduce((n, version) => n + version.loads, 0);
    const copies = versions.reduce(
      (n, { tensor }) => n + COST.copy + COST.vec4 * tensor.size / 4,
      0,
    );
    const more = endsFor(versions, ends);
    if (loads <= copies + COST.pass * more.length) continue;
    for (const end of more) ends.add(end);
    for (const version of versions) {
      const at = latest(ends, version)!;
      version.placed = { texels: new Texels(version.tensor), at };
    }
  }
}

/** The fewest steps before which passes have to end besides `ends`, so that each version can be copied before one of them. */
function endsFor(versions: readonly Version[], ends: ReadonlySet<number>): number[] {
  const more: number[] = [];
  for (const version of versions.toSorted((a, b) => a.until - b.until)) {
    const last = more.at(-1);
    if (last !== undefined && last >= version.from) continue;
    if (latest(ends, version) === undefined) more.push(version.until);
  }
  return more;
}

/** The last of the steps before which a version can be copied. */
function latest(ends: ReadonlySet<number>, { from, until }: Version): number | undefined {
  for (let at = until; at >= from; at--) if (ends.has(at)) return at;
  return undefined;
}

/**
 * Versions that dispatches wish for together, and what others wish for together with those. Copies of all or of none of them keep the variants of kernels few:
 * a variant takes llvmpipe a fifth of a second to compile.
 */
function groupsOf(wishes: Wishes): readonly Version[][] {
  const groups = new Map<Version, Version[]>();
  for (const names of wishes.values()) {
    const joined = new Set(
      [...names.values()].flatMap((version) => groups.get(version) ?? version),
    );
    const group = [...joined];
    for (const version of group) groups.set(version, group);
  }
  return [...new Set(groups.values())];
}

function bindCopies(step: Step & { kind: "dispatch" }, wishes: Wishes): Step {
  const bindings = Object.entries(step.call.bindings).map(([name, binding]) => {
    const copy = wishes.get(step)?.get(name)?.placed?.texels;
    return [name, copy ? { ...binding, copy } : binding] as const;
  });
  return { ...step, call: { ...step.call, bindings: Object.fromEntries(bindings) } };
}

function writtenBy(step: Step): Tensor[] {
  if (step.kind === "copy") return [step.to];
  if (step.kind === "clear") return tensorsOf(step);
  return Object.values(step.call.bindings)
    .filter(({ access }) => access !== "read")
    .map(({ tensor }) => tensor);
}

/** The copies that a step makes or reads. */
export function copiesOf({ step, copies }: PlacedStep): Texels[] {
  const read = step.kind === "dispatch" ? Object.values(step.call.bindings) : [];
  return [...copies, ...read.flatMap(({ copy }) => copy ? [copy] : [])];
}

/**
 * Long lists of nodes as short ones: the cells of a sweep of which the same is to be said share a line.
 *
 * @module
 */

/** A line about one node. */
export interface NodeLine {
  /** Name of the node. */
  readonly node: string;
  /** Name of its stage. */
  readonly stage: string;
  /** Where it stands. */
  readonly state: string;
  /** A remark on it; may be empty. */
  readonly note: string;
}

/** Up to so many nodes with the same line are listed one by one. */
const SHORT = 4;

/**
 * Lines of which more than a few say the same of one stage become one, in the place of the first: `train (22 nodes)`.
 *
 * ```ts
 * import { foldNodes } from "./fold.ts";
 * const lines = [1, 2, 3, 4, 5].map((seed) => (
 *   { node: `train[seed=${seed}]`, stage: "train", state: "cached", note: "" }
 * ));
 * console.assert(foldNodes(lines)[0]?.node === "train (5 nodes)");
 * ```
 */
export function foldNodes(lines: readonly NodeLine[]): NodeLine[] {
  const groups = new Map<string, NodeLine[]>();
  lines.forEach((line, i) => {
    const { stage, state, note } = line;
    // A reader of many lines need not tell `waits for train[a]` from `waits for train[b]`, but has to see each failure.
    const said = state === "failed" ? [i] : [stage, state, withoutLabels(note)];
    const group = groups.get(JSON.stringify(said));
    if (group === undefined) groups.set(JSON.stringify(said), [line]);
    else group.push(line);
  });
  const folded = new Map<NodeLine, NodeLine>();
  for (const group of groups.values()) {
    if (group.length <= SHORT) { for (const line of group) folded.set(line, line); }
    else {
      const [first] = group as [NodeLine];
      const same = group.every(({ note }) => note === first.note);
      const node = `${first.stage} (${group.length} nodes)`;
      folded.set(first, { ...first, node, note: same ? first.note : withoutLabels(first.note) });
    }
  }
  return lines.flatMap((line) => {
    const shown = folded.get(line);
    return shown === undefined ? [] : [{ ...shown, note: shorten(shown.note) }];
  });
}

/** Names of nodes; more than a few of one stage are counted. */
export function foldNames(names: readonly string[]): string[] {
  const lines = names.map((node) => (
    { node, stage: node.replace(/\[.*$/, ""), state: "", note: "" }
  ));
  return foldNodes(lines).map(({ node }) => node);
}

function withoutLabels(note: string): string {
  return note.replace(/\[[^\]]*\]/g, "");
}

/** Reasons that one line shows. */
const REASONS = 5;

/** A long list of nodes that are waited for, folded; and of many reasons the first, since `why` lists them all. */
function shorten(note: string): string {
  const reasons = note.replace(/(waits for )(.*)$/, (_, start: string, names: string) =>
    // Labels hold commas, but no brackets.
    start + foldNames(names.split(/, (?![^[]*\])/)).join(", ")).split("; ");
  if (reasons.length <= REASONS + 1) return reasons.join("; ");
  const waits = reasons.at(-1)!.startsWith("waits for ") ? reasons.splice(-1) : [];
  const more = reasons.length - REASONS;
  return [...reasons.slice(0, REASONS), `${more} more reasons (see why)`, ...waits].join("; ");
}

/**
 * The page of all claims, `results/claims.md`, from committed files and counts.
 *
 * @module
 */

import { md, type Report, type Section } from "../document.ts";
import { renderMarkdown } from "../markdown.ts";
import { type Claim, judge, type Source, type Verdict } from "./claim.ts";
import { countAll } from "./counts.ts";
import { ETHOS_CLAIMS } from "./ethos.ts";
import { EvidenceReader } from "./evidence.ts";
import { claimedText, estimateText } from "./format.ts";
import { PEER_CLAIMS } from "./peer.ts";
import { SPARSE_MOE_CLAIMS } from "./sparse_moe.ts";

/** How the page and the reports call each source. */
const SOURCE_NAMES: Readonly<Record<Source, string>> = {
  ethos: "ETHOS (Medford, McCormick, Callicoat 2025, and its README)",
  peer: "PEER (He 2024), on which ETHOS builds",
  sparse_moe: "Sparse mixture-of-experts transformer (README)",
};

/** All claims. */
export const CLAIMS: readonly Claim[] = [...ETHOS_CLAIMS, ...PEER_CLAIMS, ...SPARSE_MOE_CLAIMS];

/** A figure with its verdict, as a row of the page. */
interface JudgedRow {
  readonly figure: string;
  readonly verdict: Verdict;
  /** Why there is none. */
  readonly reason?: string;
  readonly data: string;
}

/** A claim with the rows of its figures. */
export interface JudgedClaim {
  readonly claim: Claim;
  readonly rows: readonly JudgedRow[];
}

/**
 * Judges every claim.
 *
 * @param results Folder of the committed results.
 * @throws {Error} When a file lacks what a claim names.
 */
export async function judgeClaims(results: string): Promise<readonly JudgedClaim[]> {
  const reader = new EvidenceReader({ results, counts: await countAll() });
  const judged: JudgedClaim[] = [];
  for (const claim of CLAIMS) {
    const { unit } = claim.claimed;
    const rows: JudgedRow[] = [];
    for (const evidence of claim.figures) {
      const figure = await reader.figure(evidence);
      rows.push({
        figure: `${estimateText(figure, unit)}: ${evidence.label}`,
        verdict: judge(claim, figure),
        data: figure.data,
      });
    }
    if (claim.open !== undefined) {
      const { verdict, reason, beside } = claim.open;
      const figure = beside && await reader.figure(beside);
      rows.push({
        figure: figure ? `${estimateText(figure, unit)}: ${beside.label}` : "",
        verdict,
        reason,
        data: figure?.data ?? "",
      });
    }
    judged.push({ claim, rows });
  }
  return judged;
}

/** The page as Markdown. */
export async function claimsPage(results: string): Promise<string> {
  const judged = await judgeClaims(results);
  const sources = Object.keys(SOURCE_NAMES) as Source[];
  const report: Report = {
    title: "Claims of the sources, and what was found",
    lead:
      md`Written by \`deno task claims\` from the lists in \`stages/report/claims/\`, the files of this folder and counts of the models; a test holds that this page is what it writes. A row is one figure, judged by the rule in the second column; the tolerance is ours. A figure of a small model or of few updates says nothing about the paper's training. Paths are those of this folder; *counted* figures come from the code that allocates the models.`,
    sections: [
      summary(judged, sources),
      ...sources.map((source) => section(judged.filter(({ claim }) => claim.source === source))),
    ],
    colophon: md`Licence: AGPL-3.0.`,
  };
  return renderMarkdown(report);
}

const VERDICTS: readonly Verdict[] = [
  "holds",
  "does not hold",
  "undecided",
  "not measured yet",
  "not testable here",
];

function summary(judged: readonly JudgedClaim[], sources: readonly Source[]): Section {
  return {
    id: "summary",
    title: "Summary",
    blocks: [{
      kind: "table",
      title: "Figures by verdict",
      header: ["source", "claims", ...VERDICTS],
      rows: sources.map((source) => {
        const own = judged.filter(({ claim }) => claim.source === source);
        const verdicts = own.flatMap(({ rows }) => rows.map(({ verdict }) => verdict));
        return [
          SOURCE_NAMES[source],
          String(own.length),
          ...VERDICTS.map((wanted) => String(verdicts.filter((v) => v === wanted).length)),
        ];
      }),
      numbersFrom: 1,
    }],
  };
}

function section(judged: readonly JudgedClaim[]): Section {
  const [first] = judged;
  const source = first!.claim.source;
  return {
    id: source,
    title: SOURCE_NAMES[source],
    blocks: [{
      kind: "table",
      title: "Claims",
      header: ["claim", "claimed, and how it is judged", "our figure", "verdict", "data"],
      rows: judged.flatMap(({ claim, rows }) =>
        rows.map(({ figure, verdict, reason, data }, i) => [
          i === 0 ? `${claim.statement} (${claim.place})` : "",
          i === 0 ? claimedText(claim) : "",
          figure,
          reason === undefined ? verdict : `${verdict}: ${reason}`,
          data,
        ])
      ),
    }],
  };
}

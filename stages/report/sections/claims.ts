/**
 * "Claims": those of the sources that this run has figures for.
 *
 * @module
 */

import { judge } from "../claims/claim.ts";
import { ETHOS_CLAIMS } from "../claims/ethos.ts";
import { claimedText, estimateText } from "../claims/format.ts";
import { PEER_CLAIMS } from "../claims/peer.ts";
import { runFigure } from "../claims/run.ts";
import { SPARSE_MOE_CLAIMS } from "../claims/sparse_moe.ts";
import type { Claim } from "../claims/claim.ts";
import { md, type Section } from "../document.ts";
import type { SectionContext } from "./context.ts";

/** The sources that are about a kind of feed-forward layer. */
const CLAIMS_BY_KIND: Readonly<Record<string, readonly (readonly [string, readonly Claim[]])[]>> = {
  ethos: [["ETHOS", ETHOS_CLAIMS], ["PEER", PEER_CLAIMS]],
  peer: [["PEER", PEER_CLAIMS]],
  topk_moe: [["sparse MoE", SPARSE_MOE_CLAIMS]],
};

/** The section. */
export function claimsSection(context: SectionContext): Section {
  const kind = context.facts?.architecture.config.ffn.kind;
  const sources = kind === undefined ? [] : CLAIMS_BY_KIND[kind] ?? [];
  const rows = sources.flatMap(([source, claims]) =>
    claims.flatMap((claim) => {
      const figure = runFigure(claim, context);
      if (figure === undefined) return [];
      return [[
        `${claim.statement} (${source}, ${claim.place})`,
        claimedText(claim),
        ..."verdict" in figure ? ["", `${figure.verdict}: ${figure.reason}`] : [
          `${estimateText(figure, claim.claimed.unit)}: ${figure.label}`,
          judge(claim, figure),
        ],
      ]];
    })
  );
  return {
    id: "claims",
    title: "Claims of the sources",
    blocks: rows.length === 0 ? [md`No claim of the sources is about a quantity of this run.`] : [
      md`The claims that this run has figures for, judged by its own data; the tolerances are ours. *Not testable here* is a claim about another size, text or length of training. \`results/claims.md\` has every claim of the sources with the kept figures.`,
      {
        kind: "table",
        title: "Claims and figures of this run",
        header: ["claim", "claimed, and how it is judged", "this run", "verdict"],
        rows,
      },
    ],
  };
}

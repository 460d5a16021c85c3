/**
 * The fields of a beam router in a kind's section. Defaults are the published router's values.
 *
 * @module
 */

import { z } from "zod";
import { count, width } from "../../layer/fields.ts";

/** Fields of the router, to be spread into a kind's object. */
export const beamFields = {
  routing_heads: count("routing heads, H", 256).default(4),
  top_k: count("experts kept per head, k", 64).default(8),
  axes: count("axes of a routing head, A: an expert is an id on each", 12).default(6),
  axis_query: width("query width on an axis, r", 128).default(32),
  axis_size: count("ids on an axis, S; a layer has S to the power of A experts", 16384).default(
    512,
  ),
  axis_candidates: count("ids of an axis that a query looks at, b; all where there are fewer", 512)
    .default(32),
  beam_width: count("beams that the search keeps on each axis", 128).default(64),
};

/** Sizes of a beam router. */
export interface BeamSection {
  /** Routing heads, H. */
  readonly routing_heads: number;
  /** Experts kept per routing head, k; at most as many as the search has beams. */
  readonly top_k: number;
  /** Axes of a routing head, A. */
  readonly axes: number;
  /** Query width on an axis, r; a multiple of 4. */
  readonly axis_query: number;
  /** Ids on an axis, S. */
  readonly axis_size: number;
  /** Ids of an axis that a query looks at, b. */
  readonly axis_candidates: number;
  /** Beams that the search keeps on each axis. */
  readonly beam_width: number;
}

/** Widest matrix that there is. */
const MOST_COLUMNS = 65536;

/** Rules between the fields, for `superRefine`. */
export function checkBeam(section: BeamSection, context: z.core.$RefinementCtx<BeamSection>): void {
  const { routing_heads, top_k, axes, axis_query, axis_size, beam_width } = section;
  const issue = (key: "top_k" | "axis_query", message: string) =>
    context.addIssue({ code: "custom", path: [key], message, input: section[key] });
  const candidates = Math.min(section.axis_candidates, axis_size);
  // Sizes that are none are refused by themselves.
  if (beam_width > 0 && top_k > beam_width) {
    issue(
      "top_k",
      `${top_k} is more than the ${beam_width} beams of beam_width; at most ${beam_width}`,
    );
  } else if (candidates > 0 && axes > 0 && top_k > candidates ** axes) {
    const found = candidates ** axes;
    issue(
      "top_k",
      `${top_k} is more than the ${found} sums of ${candidates} candidates on ${axes} axes; at most ${found}`,
    );
  }
  const queries = routing_heads * axes * axis_query;
  if (queries > MOST_COLUMNS) {
    issue(
      "axis_query",
      `${axis_query} on ${axes} axes of ${routing_heads} heads are ${queries} columns; at most ${MOST_COLUMNS}`,
    );
  }
}

/**
 * The choice of next tokens on the device, so that the host waits for none of them.
 *
 * @module
 */

import source from "../../../shaders/decoding/choose_token.wgsl" with { type: "text" };
import orderSource from "../../../shaders/decoding/logit_order.wgsl" with { type: "text" };
import penaliseSource from "../../../shaders/decoding/penalise.wgsl" with { type: "text" };
import {
  grid,
  read,
  readFields,
  readScalar,
  update,
  updateScalar,
  writeScalar,
} from "../../gpu/kernel.ts";
import type { Plan } from "../../gpu/plan.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { likeliestParts } from "./likeliest.ts";

/**
 * Numbers that a choice reads, in the order of `options`. `draws` is 0 where the most likely token is taken, `nucleus` where `top_p` leaves
 * all tokens, `top_k` where it does; `draw` is the random number, from 0 to 1.
 */
export const CHOICE_FIELDS = [
  "repetition_penalty",
  "draws",
  "temperature",
  "top_k",
  "min_p",
  "nucleus",
  "top_p",
  "draw",
] as const;

/** Words of `chosen` a row: the token, and the bits of its logit. */
export const CHOSEN_WORDS = 2;

/** Words of `seen` a row, a bit a token. */
export function seenWords(vocabulary: number): number {
  return Math.ceil(vocabulary / 32);
}

/**
 * Records the choice of a token for each row of logits as `Sampling` makes it: repetition penalty, temperature, top-k, min-p, top-p, and a draw. Sums are f32, so the token is
 * another one than the host's where rounding decides.
 * A row's choice does not depend on the others.
 *
 * @param tensors `logits` `[rows, stride]`, penalised in place; `options` `[rows,` {@linkcode CHOICE_FIELDS}`]`; `seen` `[rows,` {@linkcode seenWords}`]` u32,
 *   the tokens that were there, with the chosen one from then on; `token` `[rows]` u32 and `chosen` `[rows,` {@linkcode CHOSEN_WORDS}`]` u32, written. If
 *   logits are not finite, the first such token is chosen.
 */
export function chooseToken(
  plan: Plan,
  label: string,
  tensors: { logits: Tensor; options: Tensor; seen: Tensor; token: Tensor; chosen: Tensor },
  { vocabulary }: { vocabulary: number },
): void {
  const { logits, options, seen, token, chosen } = tensors;
  const { software } = plan.gpu.capabilities;
  const { rows } = logits;
  const sizes = {
    rows,
    stride: logits.width / 4,
    vectors: Math.ceil(vocabulary / 4),
    words: seenWords(vocabulary),
  };
  plan.dispatch({
    label: `${label}.penalise`,
    name: "penalise",
    source: penaliseSource,
    constants: { LANES: 64 },
    params: sizes,
    bindings: {
      z: update(logits),
      seen: readScalar(seen),
      options: readFields(options, CHOICE_FIELDS),
    },
    workgroups: grid(Math.ceil(rows * sizes.vectors / 64)),
    bytes: seen.bytes,
  });
  const { orders, tokens, sizes: { parts } } = likeliestParts(plan, `${label}.parts`, logits, {
    vocabulary,
  });
  plan.dispatch({
    label,
    name: "choose_token",
    source: orderSource + source,
    // llvmpipe ends a shader's loops for good after 65,535 turns together, so a row's passes are cut among many there, too.
    constants: { LANES: software ? 64 : 256 },
    params: { vocabulary, ...sizes, parts },
    bindings: {
      z: read(logits),
      orders: readScalar(orders),
      tokens: readScalar(tokens),
      options: readFields(options, CHOICE_FIELDS),
      seen: updateScalar(seen),
      token: writeScalar(token),
      chosen: writeScalar(chosen),
    },
    workgroups: grid(rows),
  });
}

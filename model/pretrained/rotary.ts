/**
 * Rotary positions of a published `config.json`, whose keys changed with the years.
 *
 * @module
 */

import { z } from "zod";
import type { RotaryScaling } from "../ops/attention/rope.ts";
import { type HubConfig, refused } from "./json.ts";

/** Keys that {@linkcode readRotary} reads. */
export const ROTARY_KEYS: readonly string[] = [
  "rope_parameters",
  "rope_scaling",
  "rope_theta",
  "rotary_emb_base",
  "partial_rotary_factor",
  "rotary_pct",
];

/** How the columns of a head turn. */
export interface HubRotary {
  /** Base of the frequencies, θ. */
  readonly base: number;
  /** Part of a head that turns; the model's family says which if the file does not. */
  readonly fraction: number | undefined;
  readonly scaling: RotaryScaling | undefined;
}

const positive = z.number().positive().max(1e6);

/** Keys of scalings; a scaling has its own and no other. */
const SCALINGS = {
  linear: z.strictObject({ factor: positive.min(1) }),
  llama3: z.strictObject({
    factor: positive.min(1),
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: z.int().min(1).max(2 ** 24),
  }),
} as const;

/** Reads base, fraction and scaling from the keys of any year. */
export function readRotary(config: HubConfig): HubRotary {
  const parameters = section(config, "rope_parameters");
  const older = section(config, "rope_scaling");
  if (parameters !== undefined && older !== undefined) {
    throw refused("rope_scaling", older, "rope_parameters is there, too; expected one of them");
  }
  const own = parameters ?? older ?? {};
  const at = parameters === undefined ? "rope_scaling" : "rope_parameters";
  const { rope_theta, partial_rotary_factor, rope_type, type, ...rest } = own;
  /** The first of several keys for a number that is there. */
  const number = (
    values: Readonly<Record<string, unknown>>,
    { fits, expected }: { fits: (value: number) => boolean; expected: string },
  ) => {
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined || value === null) continue;
      if (typeof value === "number" && fits(value)) return value;
      throw refused(key, value, `expected a number ${expected}`);
    }
  };
  const base = number({
    [`${at}.rope_theta`]: rope_theta,
    rope_theta: config["rope_theta"],
    rotary_emb_base: config["rotary_emb_base"],
  }, { fits: (value) => value >= 1 && value <= 1e9, expected: "from 1 to 1e9" });
  const fraction = number({
    [`${at}.partial_rotary_factor`]: partial_rotary_factor,
    partial_rotary_factor: config["partial_rotary_factor"],
    rotary_pct: config["rotary_pct"],
  }, { fits: (value) => value > 0 && value <= 1, expected: "above 0, at most 1" });
  return { base: base ?? 10000, fraction, scaling: scalingOf(rope_type ?? type, rest, at) };
}

function section(
  config: HubConfig,
  key: string,
): Readonly<Record<string, unknown>> | undefined {
  const value = config[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  throw refused(key, value, "expected an object or null");
}

function scalingOf(
  type: unknown,
  rest: Readonly<Record<string, unknown>>,
  at: string,
): RotaryScaling | undefined {
  const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null));
  if (type === "default" || type === undefined) {
    const [key] = Object.keys(given);
    if (key === undefined) return undefined;
    throw refused(`${at}.${key}`, given[key], "it means nothing without a rope_type");
  }
  if (type !== "linear" && type !== "llama3") {
    throw refused(`${at}.rope_type`, type, "expected default, linear or llama3");
  }
  const parsed = SCALINGS[type].safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const key = issue.code === "unrecognized_keys" ? issue.keys[0]! : issue.path.join(".");
    throw refused(`${at}.${key}`, given[key], issue.message);
  }
  const scaling = { type, ...parsed.data } as RotaryScaling;
  if (scaling.type === "llama3" && scaling.high_freq_factor <= scaling.low_freq_factor) {
    throw refused(
      `${at}.high_freq_factor`,
      scaling.high_freq_factor,
      `expected more than low_freq_factor ${scaling.low_freq_factor}`,
    );
  }
  return scaling;
}

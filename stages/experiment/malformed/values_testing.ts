/**
 * Values of the wrong type or out of range, unknown keys and words.
 *
 * @module
 */

import { MINIMAL } from "../config_testing.ts";
import { type Malformed, withLines } from "./malformed_testing.ts";

const without = (key: string) => MINIMAL.replace(new RegExp(`^${key}:.*\n`, "m"), "");

/** Values of the wrong type or out of range, unknown keys and words. */
export const MALFORMED_VALUES: readonly Malformed[] = [
  // Types.
  {
    what: "text for a whole number",
    text: withLines("model:", "  ffn:", "    kind: ethos", "    d_latent: abc"),
    says: ['bad.yaml:8: model.ffn.d_latent: expected a whole number from 4 to 65536, got "abc"'],
  },
  {
    what: "a quoted number",
    text: withLines('model: { ffn: { kind: ethos, d_latent: "64" } }'),
    says: ["model.ffn.d_latent: expected a whole number", "remove the quotes"],
  },
  {
    what: "a number with underscores",
    text: withLines("model: { ffn: { kind: ethos, num_experts: 65_536 } }"),
    says: ["model.ffn.num_experts", "write 65536"],
  },
  {
    what: "a per cent",
    text: MINIMAL.replace("source: embedded", "source: c4, fraction: 1%"),
    says: ["bad.yaml:2: data.fraction: expected a number", "write 0.01"],
    real: ["data.fraction: unknown key here; did you mean data.c4.fraction or data.hub.fraction?"],
  },
  {
    what: "a fraction for a whole number",
    text: withLines("model: { ffn: { kind: ethos, top_k: 2.5 } }"),
    says: ["model.ffn.top_k: expected a whole number from 1 to 64, got 2.5"],
  },
  {
    what: "yes for true",
    text: withLines("model: { ffn: { kind: ethos, router_batch_norm: yes } }"),
    says: ['model.ffn.router_batch_norm: expected true or false, got "yes"', "write true"],
  },
  {
    what: "a list for a number",
    text: withLines("seed: [1, 2]"),
    says: ["bad.yaml:5: seed: expected a whole number", "got a list of 2"],
  },
  {
    what: "a number for a list",
    text: withLines("seeds: 3"),
    says: ["seeds: expected a list of 1 to 64 items, got 3"],
  },
  {
    what: "a number for a section",
    text: withLines("model: 7"),
    says: ["model: expected a section (keys with values), got 7"],
  },
  {
    what: "a section left empty",
    text: withLines("model:"),
    says: ["model: expected a section (keys with values), got nothing"],
  },
  {
    what: "a section for a number",
    text: withLines("seed: { a: 1 }"),
    says: ["seed: expected a whole number", "got a section"],
  },
  // Keys.
  {
    what: "a typo",
    text: withLines("model:", "  ffn: { kind: ethos,", "    d_latnt: 64 }"),
    says: ["bad.yaml:7: model.ffn.d_latnt: unknown key; did you mean d_latent?"],
  },
  {
    what: "a typo in a section's name",
    text: withLines("modle: { d_model: 64 }"),
    says: ["bad.yaml:5: modle: unknown key; did you mean model?"],
  },
  {
    what: "a typo three levels deep",
    text: MINIMAL.replace("warmup_steps: 10", "warmup_step: 10"),
    says: ["train.learning_rate.warmup_step: unknown key; did you mean warmup_steps?"],
  },
  {
    what: "a key in the wrong section",
    text: withLines("d_latent: 64"),
    says: ["d_latent: unknown key here; did you mean model.ffn.d_latent?"],
  },
  {
    what: "a key of another source",
    text: MINIMAL.replace("source: embedded", "source: c4, files: [a]"),
    says: ["bad.yaml:2: data.files: unknown key", "expected one of fraction, source"],
    real: ["data.files: expected a section (keys with values), got a list of 1"],
  },
  {
    what: "a word that is like nothing",
    text: withLines("report: { zzzzzzzz: 1 }"),
    says: ["report.zzzzzzzz: unknown key; expected one of"],
  },
  {
    what: "__proto__",
    text: withLines("__proto__: { seed: 1 }"),
    says: ["bad.yaml:5: __proto__: unknown key"],
  },
  {
    what: "a missing section",
    text: without("data"),
    says: ["data: missing; expected a section"],
  },
  {
    what: "a missing name",
    text: without("name"),
    says: ["name: missing; expected text"],
  },
  {
    what: "a missing length of training",
    text: MINIMAL.replace("steps: 100, ", ""),
    says: ["train.steps: missing; give steps (updates) or tokens"],
  },
  // Words.
  {
    what: "a typo in a choice",
    text: withLines("model: { ffn: { kind: etos } }"),
    says: [
      'model.ffn.kind: expected dense or ethos or peer or switch or topk_moe, got "etos"',
      "did you mean ethos?",
    ],
  },
  {
    what: "a source that doesn't exist",
    text: MINIMAL.replace("embedded", "wikipedia"),
    says: ['bad.yaml:2: data.source: expected embedded or c4 or files, got "wikipedia"'],
    real: ['bad.yaml:2: data.source: expected one of embedded, c4, hub, files, got "wikipedia"'],
  },
  {
    what: "a name that can't be a file's",
    text: MINIMAL.replace("name: test", "name: My Test/1"),
    says: ['name: "My Test/1" is no plain name; use lower-case letters'],
  },
  {
    what: "a results folder outside the project",
    text: withLines("results: ../../etc"),
    says: ['results: "../../etc" is not a folder inside the project'],
  },
  // Numbers out of range.
  {
    what: "NaN",
    text: withLines("model: { ffn: { kind: ethos, load_balance_coef: .nan } }"),
    says: ["model.ffn.load_balance_coef: expected a number from 0 to 1000, got NaN"],
  },
  {
    what: "infinity",
    text: MINIMAL.replace("steps: 100", "steps: .inf"),
    says: ["train.steps: expected a whole number from 1 to 16777216, got Infinity"],
  },
  {
    what: "a negative size",
    text: withLines("model: { ffn: { kind: ethos, d_hidden: -32 } }"),
    says: ["model.ffn.d_hidden: expected a whole number from 4 to 65536, got -32"],
  },
  {
    what: "zero",
    text: MINIMAL.replace("steps: 100", "steps: 0"),
    says: ["train.steps: expected a whole number from 1 to 16777216, got 0"],
  },
  {
    what: "a number too large to be whole",
    text: withLines("seed: 123456789012345678901234567890"),
    says: ["seed: expected a whole number"],
  },
  {
    what: "beta at its limit",
    text: MINIMAL.replace("steps: 100", "steps: 100, beta1: 1"),
    says: ["train.beta1: expected a number at least 0 and below 1, got 1"],
  },
  {
    what: "a seed given twice",
    text: withLines("seeds: [1, 1]"),
    says: ["seeds: a seed is listed twice"],
  },
];

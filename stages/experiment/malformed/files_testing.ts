/**
 * Files that cannot be read, malformed YAML, extended files and `--set`.
 *
 * @module
 */

import { MINIMAL } from "../config_testing.ts";
import { type Malformed, withLines } from "./malformed_testing.ts";

const bomb = (levels: number) =>
  Array.from(
    { length: levels },
    (_, i) => `l${i}: &l${i} [${i === 0 ? "1" : Array(10).fill(`*l${i - 1}`).join(", ")}]`,
  ).join("\n");

/** Files that cannot be read, malformed YAML, extended files and `--set`. */
export const MALFORMED_FILES: readonly Malformed[] = [
  // Files.
  { what: "a missing file", path: "nope/missing.yaml", says: ["missing.yaml: no such file"] },
  {
    what: "a missing file with a name beside it",
    text: MINIMAL,
    path: "bda.yaml",
    says: ["bda.yaml: no such file; did you mean", "bad.yaml?"],
  },
  { what: "a directory", path: ".", says: ["is a directory; expected a YAML file"] },
  {
    what: "a binary file",
    text: new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2, 3]),
    says: ["bad.yaml: is a binary file"],
  },
  {
    what: "text that is not UTF-8",
    text: new Uint8Array([0x6e, 0x3a, 0x20, 0xe9, 0x0a]),
    says: ["bad.yaml: is not UTF-8 text"],
  },
  {
    what: "UTF-16",
    text: new Uint8Array([0xff, 0xfe, 0x6e, 0, 0x3a, 0]),
    says: ["bad.yaml: is UTF-16 text"],
  },
  {
    what: "a file too large",
    text: `name: ${"x".repeat(1 << 20)}`,
    says: ["bad.yaml: is 1048582 bytes; a configuration has at most 1048576"],
  },
  { what: "an empty file", text: "", says: ["bad.yaml: the file is empty"] },
  { what: "only comments", text: "# nothing\n\n", says: ["bad.yaml: the file is empty"] },
  {
    what: "a list at the top",
    text: "- a\n- b\n",
    says: ["bad.yaml:1: expected keys with values at the top of the file, got a list"],
  },
  {
    what: "a word at the top",
    text: "hello\n",
    says: ["bad.yaml:1: expected keys with values at the top of the file, got a single value"],
  },
  // YAML.
  {
    what: "a YAML bomb",
    text: bomb(9),
    says: ["bad.yaml:", "more than 10000 values once aliases are expanded"],
  },
  {
    what: "an alias of itself",
    text: "name: &a [*a]\n",
    says: ["bad.yaml:1: name", "nested more than 32 deep"],
  },
  {
    what: "brackets without end",
    text: `name: ${"[".repeat(100_000)}`,
    says: ["bad.yaml", "nested too deeply"],
  },
  {
    what: "tabs",
    text: "name: test\nmodel:\n\td_model: 64\n",
    says: ["bad.yaml:3", "model", "a tab is used to indent; YAML takes spaces only"],
  },
  {
    what: "a key given twice",
    text: withLines("seed: 1", "model: { d_model: 64 }", "seed: 2"),
    says: ["bad.yaml:7: seed: given twice, first at ", "bad.yaml:5; keep one"],
  },
  {
    what: "a bracket left open",
    text: "name: test\nseeds: [1, 2\nmodel: {}\n",
    says: ["bad.yaml:3: model: not valid YAML: flow sequence", "end with a ]"],
  },
  {
    what: "an alias without an anchor",
    text: withLines("seed: *nowhere"),
    says: ["bad.yaml:5: seed: the alias *nowhere has no anchor before it"],
  },
  {
    what: "a tag that runs code elsewhere",
    text: withLines("seed: !!js/function 'function(){}'"),
    says: ["bad.yaml:5: seed: a tag that is not known"],
  },
  {
    what: "two documents",
    text: `${MINIMAL}---\nname: other\n`,
    says: ["bad.yaml:", "a second YAML document starts here"],
  },
  // Extends.
  {
    what: "a file to extend that is missing",
    text: "extends: nope.yaml\n",
    says: ["bad.yaml:1: extends:", "nope.yaml: no such file"],
  },
  {
    what: "a number to extend",
    text: "extends: 3\n",
    says: ["bad.yaml:1: extends: expected the path of a YAML file"],
  },
  {
    what: "a cycle",
    text: "extends: other.yaml\n",
    files: { "other.yaml": "extends: bad.yaml\n" },
    says: ["other.yaml:1: extends: a file can't extend itself", "bad.yaml → "],
  },
  {
    what: "a problem in the file that is extended",
    text: "extends: other.yaml\n",
    files: { "other.yaml": withLines("model: { ffn: { kind: ethos, d_latnt: 3 } }") },
    says: ["other.yaml:5: model.ffn.d_latnt: unknown key; did you mean d_latent?"],
  },
  // --set.
  {
    what: "--set with a typo",
    text: MINIMAL,
    set: ["model.ffn.kind=ethos", "model.ffn.d_latnt=64"],
    says: ["--set model.ffn.d_latnt=64: model.ffn.d_latnt: unknown key; did you mean d_latent?"],
  },
  {
    what: "--set with a wrong type",
    text: MINIMAL,
    set: ["train.steps=many"],
    says: ["--set train.steps=many: train.steps: expected a whole number", 'got "many"'],
  },
  {
    what: "--set without a value",
    text: MINIMAL,
    set: ["model.ffn.d_latent"],
    says: [
      "--set model.ffn.d_latent: model.ffn.d_latent: no value; write model.ffn.d_latent=VALUE",
    ],
  },
  {
    what: "--set with an empty value",
    text: MINIMAL,
    set: ["model.ffn.d_latent="],
    says: ["--set model.ffn.d_latent=: model.ffn.d_latent: no value"],
  },
  {
    what: "--set without a key",
    text: MINIMAL,
    set: ["=3"],
    says: ["--set =3: expected keys joined by dots before the ="],
  },
  {
    what: "--set below a single value",
    text: MINIMAL,
    set: ["name.first=x"],
    says: ['--set name.first=x: name: a single value ("test"), so it has no key "first"'],
  },
  {
    what: "--set beyond a list",
    text: withLines("seeds: [1, 2]"),
    set: ["seeds.2=3"],
    says: ['--set seeds.2=3: seeds: a list of 2; "2" is not an index from 0 to 1'],
  },
  {
    what: "--set with bad YAML",
    text: MINIMAL,
    set: ["seeds=[1, 2"],
    says: ["--set seeds=[1, 2: seeds: not valid YAML"],
  },
  {
    what: "--set of a section",
    text: MINIMAL,
    set: ["model={d_model: 64}"],
    says: ["--set model={d_model: 64}: model: a section can't be set whole"],
  },
  {
    what: "--set of __proto__",
    text: MINIMAL,
    set: ["__proto__.polluted=1"],
    says: ["--set __proto__.polluted=1: __proto__"],
  },
];

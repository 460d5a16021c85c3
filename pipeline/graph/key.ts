/**
 * Keys: a node's result is addressed by the SHA-256 of the canonical JSON (RFC 8785) of everything that it is a
 * function of. The parts are kept, so that a changed key can be explained.
 *
 * @module
 */

import canonicalize from "canonicalize";
import { createHash } from "node:crypto";
import type { CodeClosure } from "./code.ts";
import { UserError } from "../errors.ts";
import type { JsonValue } from "../stage.ts";

/** The part of a key that comes from one input. */
export interface InputComponent {
  /** Name of the node that is read. */
  readonly node: string;
  /** Digest of all that a reader sees of it: name, labels, parameters, outputs, metrics that are not measured. */
  readonly digest: string;
}

/** Everything that a node's result is a function of. Never time, host or GPU: those are provenance. */
export interface KeyComponents {
  /** Version of this structure; a new one makes every node stale. */
  readonly format: 1;
  /** Name of the stage. */
  readonly stage: string;
  /** The parameters that the stage's schema kept. */
  readonly params: JsonValue;
  /** The nodes that it reads, by name. */
  readonly inputs: Readonly<Record<string, readonly InputComponent[]>>;
  /** Source files and locked packages. */
  readonly code: CodeClosure;
}

/** SHA-256 in hexadecimal. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/**
 * Canonical JSON of a value (RFC 8785).
 *
 * ```ts
 * import { canonicalJson } from "./key.ts";
 * console.assert(canonicalJson({ b: 1.0, a: [true, null] }) === '{"a":[true,null],"b":1}');
 * ```
 */
export function canonicalJson(value: JsonValue): string {
  const text = canonicalize(value);
  if (text === undefined) throw new TypeError("Undefined has no canonical JSON");
  return text;
}

/** SHA-256 of canonical JSON. */
export function digestJson(value: JsonValue): string {
  return sha256(canonicalJson(value));
}

/**
 * A plain copy of a value that JSON can hold. Keys that are `undefined` are left out; everything else that JSON can't
 * hold (NaN, functions, dates, typed arrays) is an error that says where it is.
 */
export function toJson(value: unknown, what: string): JsonValue {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      throw new UserError(`${what} is ${value}, which JSON can't hold; expected a finite number.`);
    case "object": {
      if (value === null) return null;
      if (Array.isArray(value)) return value.map((item, i) => toJson(item, `${what}[${i}]`));
      const prototype = Object.getPrototypeOf(value);
      if (prototype === Object.prototype || prototype === null) {
        const copy: Record<string, JsonValue> = {};
        for (const [key, item] of Object.entries(value)) {
          if (item !== undefined) copy[key] = toJson(item, `${what}.${key}`);
        }
        return copy;
      }
      throw new UserError(
        `${what} is a ${prototype?.constructor?.name ?? "strange object"}; expected plain JSON.`,
      );
    }
    default:
      throw new UserError(`${what} is of type ${typeof value}; expected plain JSON.`);
  }
}

/** The key of a node. */
export function nodeKey(components: KeyComponents): string {
  return digestJson({
    format: components.format,
    stage: components.stage,
    params: components.params,
    inputs: components.inputs as unknown as JsonValue,
    code: components.code.digest,
  });
}

/**
 * The parts of a key as flat rows, as table `key_components` holds them: `params.model.ffn.d_latent` → `64`,
 * `code.model/router.ts` → digest, `package.zod@4.6.7` → integrity, `inputs.tokens[0]` → `tokenize <digest>`.
 */
export function flattenComponents(components: KeyComponents): Map<string, string> {
  const rows = new Map<string, string>();
  rows.set("stage", components.stage);
  flattenJson("params", components.params, rows);
  for (const [file, digest] of Object.entries(components.code.files)) {
    rows.set(`code.${file}`, digest);
  }
  for (const [name, integrity] of Object.entries(components.code.packages)) {
    rows.set(`package.${name}`, integrity);
  }
  for (const [name, list] of Object.entries(components.inputs)) {
    list.forEach((input, i) => rows.set(`inputs.${name}[${i}]`, `${input.node} ${input.digest}`));
  }
  return rows;
}

function flattenJson(path: string, value: JsonValue, rows: Map<string, string>): void {
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    if (entries.length > 0) {
      for (const [key, item] of entries) {
        flattenJson(Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`, item, rows);
      }
      return;
    }
  }
  rows.set(path, JSON.stringify(value));
}

/**
 * Describes the differences between the parts of two keys, the most telling first:
 * `params.model.ffn.d_latent 64 → 128`, `code: model/router.ts changed`, `package: zod 4.6.6 → 4.6.7`,
 * `input tokens[0]: tokenize changed`.
 */
export function explainDifference(before: KeyComponents, after: KeyComponents): string[] {
  const reasons: string[] = [];
  const was = new Map<string, string>();
  const is = new Map<string, string>();
  flattenJson("params", before.params, was);
  flattenJson("params", after.params, is);
  for (const path of union(was.keys(), is.keys())) {
    const a = was.get(path);
    const b = is.get(path);
    if (a === b) continue;
    if (a === undefined) reasons.push(`${path} added: ${b}`);
    else if (b === undefined) reasons.push(`${path} removed (was ${a})`);
    else reasons.push(`${path} ${a} → ${b}`);
  }
  for (const file of union(Object.keys(before.code.files), Object.keys(after.code.files))) {
    const a = before.code.files[file];
    const b = after.code.files[file];
    if (a === b) continue;
    const verb = a === undefined ? "added" : b === undefined ? "removed" : "changed";
    reasons.push(`code: ${file} ${verb}`);
  }
  reasons.push(...packageDifference(before.code.packages, after.code.packages));
  for (const name of union(Object.keys(before.inputs), Object.keys(after.inputs))) {
    const a = before.inputs[name] ?? [];
    const b = after.inputs[name] ?? [];
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      const p = a[i];
      const q = b[i];
      if (p?.digest === q?.digest) continue;
      if (p === undefined) reasons.push(`input ${name}[${i}]: ${q!.node} added`);
      else if (q === undefined) reasons.push(`input ${name}[${i}]: ${p.node} removed`);
      else if (p.node === q.node) reasons.push(`input ${name}[${i}]: ${p.node} changed`);
      else reasons.push(`input ${name}[${i}]: ${p.node} → ${q.node}`);
    }
  }
  if (before.stage !== after.stage) reasons.push(`stage ${before.stage} → ${after.stage}`);
  if (before.format !== after.format) reasons.push("the engine's key format changed");
  return reasons;
}

function packageDifference(
  before: Readonly<Record<string, string>>,
  after: Readonly<Record<string, string>>,
): string[] {
  const split = (id: string) => {
    const at = id.indexOf("@", 1);
    return [id.slice(0, at), id.slice(at + 1)] as const;
  };
  const gone = Object.keys(before).filter((id) => !(id in after)).map(split);
  const reasons: string[] = [];
  for (const id of Object.keys(after).sort()) {
    if (id in before) {
      if (before[id] !== after[id]) reasons.push(`package: ${id} has another integrity hash`);
      continue;
    }
    const [name, version] = split(id);
    const i = gone.findIndex(([other]) => other === name);
    if (i < 0) reasons.push(`package: ${id} added`);
    else reasons.push(`package: ${name} ${gone.splice(i, 1)[0]![1]} → ${version}`);
  }
  for (const [name, version] of gone) reasons.push(`package: ${name}@${version} removed`);
  return reasons;
}

function union(a: Iterable<string>, b: Iterable<string>): string[] {
  return [...new Set([...a, ...b])].sort();
}

/**
 * Explains a schema's complaint to the person who wrote the configuration: names the key, the expected value, the given
 * value, and the value that was probably meant.
 *
 * @module
 */

import { z } from "zod";
import { nearest } from "../terminal/closest.ts";
import type { PathStep } from "./tree.ts";

/** The parts of JSON Schema that explanations read. */
interface Shape {
  readonly type?: string | readonly string[];
  readonly description?: string;
  /** True of a key that only says where it went. */
  readonly deprecated?: boolean;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly additionalProperties?: Shape | boolean;
  readonly items?: Shape;
  readonly prefixItems?: readonly Shape[];
  readonly anyOf?: readonly Shape[];
  readonly oneOf?: readonly Shape[];
  readonly allOf?: readonly Shape[];
}

/** A complaint of zod's. */
type Issue = z.core.$ZodIssue;

/** One explained complaint. */
export interface Explanation {
  /** Keys from the top. */
  readonly path: readonly PathStep[];
  /** A sentence. */
  readonly message: string;
}

/**
 * Explains a schema's complaints about a value.
 *
 * @param issues The issues that `safeParse` returned.
 * @param options The schema and the value that it was given.
 *
 * @example
 * ```ts
 * import { z } from "zod";
 * import { explainIssues } from "./explain.ts";
 * const schema = z.strictObject({ seed: z.int().min(0).max(9) });
 * const value = { seed: "abc" };
 * const { error } = schema.safeParse(value);
 * const [first] = explainIssues(error?.issues ?? [], { schema, value });
 * console.assert(first?.message === 'expected a whole number from 0 to 9, got "abc"');
 * ```
 */
export function explainIssues(
  issues: readonly Issue[],
  options: { readonly schema: z.ZodType; readonly value: unknown },
): Explanation[] {
  const root = z.toJSONSchema(options.schema, { io: "input", unrepresentable: "any" }) as Shape;
  return issues.flatMap((issue) => explain(issue, [], root, options.value));
}

/** One complaint; a key that isn't known makes one explanation each. */
function explain(
  issue: Issue,
  prefix: readonly PathStep[],
  root: Shape,
  value: unknown,
): Explanation[] {
  const path = [...prefix, ...issue.path.map((step) => typeof step === "symbol" ? "?" : step)];
  const shapes = shapesAt(root, path, value);
  const got = valueAt(value, path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => ({
        path: [...path, key],
        message: explainUnknownKey(key, path, shapes, root),
      }));
    case "custom":
      return [{ path, message: issue.message }];
    case "invalid_union": {
      const branch = deepestBranch(issue.errors);
      if (branch !== undefined) {
        return branch.flatMap((inner) => explain(inner, path, root, value));
      }
      return [{ path, message: mismatch(shapes, got) }];
    }
    case "invalid_type":
    case "invalid_value":
    case "too_small":
    case "too_big":
    case "not_multiple_of":
      return [{ path, message: mismatch(shapes, got) }];
    default:
      return [{ path, message: `${issue.message}, got ${show(got)}` }];
  }
}

/** Among a union's branches, the one whose complaints lie deepest: the one that was meant. */
function deepestBranch(branches: readonly (readonly Issue[])[]): readonly Issue[] | undefined {
  const depth = (issues: readonly Issue[]) => Math.max(0, ...issues.map((i) => i.path.length));
  const best = branches.toSorted((a, b) => depth(b) - depth(a) || a.length - b.length)[0];
  if (best === undefined) return undefined;
  const sameKind = best.every(({ code, path }) => path.length > 0 || code === "unrecognized_keys");
  return sameKind ? best : undefined;
}

/** A key that the schema doesn't have. */
function explainUnknownKey(
  key: string,
  path: readonly PathStep[],
  shapes: readonly Shape[],
  root: Shape,
): string {
  const known = [...new Set(shapes.flatMap((shape) => propertiesOf(shape).map(([name]) => name)))];
  const here = path.join(".");
  const elsewhere = sectionsWith(key, root).filter((section) => section !== here);
  const inside = elsewhere.filter((section) => here !== "" && section.startsWith(`${here}.`));
  const near = inside.length > 0 ? undefined : nearest(key, known);
  if (near !== undefined) return `unknown key; did you mean ${near}?`;
  const places = inside.length > 0 ? inside : elsewhere;
  if (places.length > 0) {
    return `unknown key here; did you mean ${
      places.map((section) => section === "" ? key : `${section}.${key}`).join(" or ")
    }?`;
  }
  return known.length > 0
    ? `unknown key; expected one of ${known.sort().join(", ")}`
    : "unknown key; none is expected here";
}

/** Keys that a shape has. */
function propertiesOf({ properties = {} }: Shape): [string, Shape][] {
  return Object.entries(properties).filter(([, { deprecated }]) => deprecated !== true);
}

/** Sections of the schema that have the key, as paths. */
function sectionsWith(key: string, root: Shape): string[] {
  const found = new Set<string>();
  const walk = (shape: Shape, path: string) => {
    for (const branch of branchesOf(shape)) {
      for (const [name, child] of propertiesOf(branch)) {
        if (name === key) found.add(path);
        walk(child, path === "" ? name : `${path}.${name}`);
      }
    }
  };
  walk(root, "");
  return [...found];
}

/** `expected …, got …`, with a remark when the intention is plain. */
function mismatch(shapes: readonly Shape[], got: unknown): string {
  const expected = [...new Set(shapes.map(expectation))].join(" or ");
  const about = shapes.find(({ description }) => description !== undefined)?.description;
  const sentence = got === undefined
    ? `missing; expected ${expected}`
    : `expected ${expected}, got ${show(got)}`;
  const remark = remarkOn(shapes, got);
  return `${sentence}${about === undefined ? "" : ` (${about})`}${remark}`;
}

/** Suggests the value that was probably meant. */
function remarkOn(shapes: readonly Shape[], got: unknown): string {
  if (typeof got !== "string") return "";
  const words = shapes.flatMap((shape) => [
    ...(shape.enum ?? []),
    ...(shape.const === undefined ? [] : [shape.const]),
  ]).filter((word) => typeof word === "string");
  const near = nearest(got, words);
  if (near !== undefined) return `; did you mean ${near}?`;
  const takes = (type: string) => shapes.some((shape) => [shape.type].flat().includes(type));
  if (takes("number") || takes("integer")) {
    const digits = got.replaceAll(/[_,\s]/g, "");
    if (/^[+-]?[\d.]+%$/.test(digits)) return `; write ${Number(digits.slice(0, -1)) / 100}`;
    if (digits !== "" && Number.isFinite(Number(digits))) {
      return digits === got ? "; remove the quotes" : `; write ${Number(digits)}`;
    }
  }
  if (takes("boolean")) {
    if (/^(y|yes|on|true)$/i.test(got)) return "; write true";
    if (/^(n|no|off|false)$/i.test(got)) return "; write false";
  }
  return "";
}

/** Says in words which values a shape allows. */
function expectation(shape: Shape): string {
  if (shape.enum !== undefined) return `one of ${shape.enum.map(String).join(", ")}`;
  if (shape.const !== undefined) return String(shape.const);
  switch (shape.type) {
    case "integer":
      return `a whole number${range(shape)}`;
    case "number":
      return `a number${range(shape)}`;
    case "string":
      if (shape.pattern !== undefined) return `text that matches ${shape.pattern}`;
      return `text${sized(shape.minLength, shape.maxLength, "characters")}`;
    case "boolean":
      return "true or false";
    case "null":
      return "null";
    case "array":
      return `a list${sized(shape.minItems, shape.maxItems, "items")}`;
    case "object":
      return "a section (keys with values)";
    default:
      return "another value";
  }
}

/** ` from 4 to 65536`; the limits of exact whole numbers count as none. */
function range(shape: Shape): string {
  const real = (bound: number | undefined) =>
    bound !== undefined && Math.abs(bound) < Number.MAX_SAFE_INTEGER ? bound : undefined;
  const [low, above] = [real(shape.minimum), real(shape.exclusiveMinimum)];
  const [high, below] = [real(shape.maximum), real(shape.exclusiveMaximum)];
  if (low !== undefined && high !== undefined) return ` from ${low} to ${high}`;
  const parts = [
    low === undefined ? "" : `at least ${low}`,
    above === undefined ? "" : `above ${above}`,
    high === undefined ? "" : `at most ${high}`,
    below === undefined ? "" : `below ${below}`,
  ].filter((part) => part !== "");
  return parts.length > 0 ? ` ${parts.join(" and ")}` : "";
}

/** ` of 1 to 4 items`. */
function sized(low: number | undefined, high: number | undefined, unit: string): string {
  if (low !== undefined && high !== undefined) return ` of ${low} to ${high} ${unit}`;
  if (low !== undefined) return ` of at least ${low} ${unit}`;
  return high === undefined ? "" : ` of at most ${high} ${unit}`;
}

/** The shapes that may stand at a path; several where a union leaves it open. */
function shapesAt(root: Shape, path: readonly PathStep[], value: unknown): Shape[] {
  let shapes = [root];
  let here = value;
  for (const step of path) {
    shapes = fitting(shapes, here).flatMap((shape) => {
      const child = typeof step === "number"
        ? shape.prefixItems?.[step] ?? shape.items
        : shape.properties?.[step] ??
          (typeof shape.additionalProperties === "object" ? shape.additionalProperties : undefined);
      return child === undefined ? [] : [child];
    });
    here = valueAt(here, [step]);
  }
  return fitting(shapes, here);
}

/** The alternatives that were probably meant, or all. */
function fitting(shapes: readonly Shape[], value: unknown): Shape[] {
  const open = shapes.flatMap(branchesOf);
  const meant = open.filter((shape) => fits(shape, value));
  return meant.length > 0 ? meant : open;
}

/** A shape's alternatives, unions opened. */
function branchesOf(shape: Shape): Shape[] {
  const branches = shape.anyOf ?? shape.oneOf ?? shape.allOf;
  if (branches === undefined) return [shape];
  const { description } = shape;
  return branches.flatMap(branchesOf).map((branch) =>
    description === undefined ? branch : { description, ...branch }
  );
}

/** False when a literal of the shape (a discriminator) says that another branch was meant. */
function fits(shape: Shape, value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(shape.properties ?? {}).every(([key, child]) => {
    const given = valueAt(value, [key]);
    return child.const === undefined || given === undefined || given === child.const;
  });
}

/** The value at a path. */
function valueAt(value: unknown, path: readonly PathStep[]): unknown {
  let here = value;
  for (const step of path) {
    if (typeof here !== "object" || here === null || !Object.hasOwn(here, step)) return undefined;
    here = (here as Record<PathStep, unknown>)[step];
  }
  return here;
}

/** A value as it is shown in a message, cut short. */
function show(value: unknown): string {
  if (value === null) return "nothing";
  if (typeof value === "number") {
    return Number.isNaN(value) ? "NaN (not a number)" : String(value);
  }
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object") return "a section (keys with values)";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

/**
 * WGSL with Jinja markup, rendered once a process for each text and each choice of values.
 *
 * A model has hundreds of dispatches of a few dozen kernels, and a layer of Sparse Expansion thousands: rendering takes
 * milliseconds, which is more than all else that the host does for a dispatch.
 *
 * @module
 */

import { Template } from "@huggingface/jinja";

/** Values that Jinja sees. */
export type TemplateValues = Readonly<
  Record<string, number | boolean | string | readonly number[]>
>;

/** A text with markup, parsed, and what it was rendered to, by {@linkcode keyOf} and head. */
interface Parsed {
  readonly template: Template;
  readonly rendered: Map<string, string>;
}

/** By their whole text, so that no text gets what another one was rendered to. Kernels are finitely many, and so are the variants that a program runs. */
const parsed = new Map<string, Parsed>();

/**
 * Renders a text with markup. The same arguments give the same string, not a copy of it, so that a map finds it without reading it again.
 *
 * @param options `head`: what is put before it, a line or more; none unless given.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { renderTemplate } from "./template.ts";
 *
 * assertEquals(renderTemplate("x{{ N }}", { values: { N: 2 }, head: "// A head." }), "// A head.\nx2");
 * ```
 */
export function renderTemplate(
  source: string,
  { values, head }: { readonly values: TemplateValues; readonly head?: string },
): string {
  let of = parsed.get(source);
  if (!of) parsed.set(source, of = { template: new Template(source), rendered: new Map() });
  // A key of values has no line break, so head and values can't be taken for each other.
  const key = head === undefined ? keyOf(values) : `${keyOf(values)}\n${head}`;
  let text = of.rendered.get(key);
  if (text === undefined) {
    const body = of.template.render({ ...values });
    of.rendered.set(key, text = head === undefined ? body : `${head}\n${body}`);
  }
  return text;
}

/** Names and values with their types, on one line. */
function keyOf(values: TemplateValues): string {
  let key = "";
  for (const [name, value] of Object.entries(values)) {
    const shown = typeof value === "string"
      ? JSON.stringify(value)
      : typeof value === "object"
      ? `[${value.join()}]`
      : value;
    key += `${name}=${shown},`;
  }
  return key;
}

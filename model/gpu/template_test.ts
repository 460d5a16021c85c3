/** Texts are rendered once, and never in the place of others. */

import { assertEquals, assertStrictEquals } from "@std/assert";
import { Template } from "@huggingface/jinja";
import fc from "fast-check";
import { renderTemplate, type TemplateValues } from "./template.ts";

/** Few of each, so that a case often has the same text with other values, or the same values with another text. */
const SOURCES = [
  "a {{ x }} {% for i in range(y) %}{{ i }},{% endfor %}",
  "a {{ x }} {% for i in range(y) %}{{ i }};{% endfor %}",
  "{% if x is string %}text{% elif x is number %}number{% elif x is iterable %}{{ x[0] }}{% else %}{{ x }}{% endif %}",
  "no markup",
];
const VALUES = [1, 1.5, -1, true, false, "1", "true", "a", 'a"', "a,y=2", "\n", [1], [1, 2], []];

const call = fc.record({
  source: fc.constantFrom(...SOURCES),
  values: fc.record({ x: fc.constantFrom(...VALUES), y: fc.nat({ max: 3 }) }),
  head: fc.constantFrom(undefined, "", "head", "head\n", "x=1,y=2,"),
});

Deno.test("a text that was kept is what a new template gives, whatever was rendered before", () => {
  fc.assert(
    fc.property(fc.array(call, { maxLength: 40 }), (calls) => {
      for (const { source, values, head } of calls) {
        const options = { values, ...(head !== undefined && { head }) };
        const body = new Template(source).render({ ...values });
        const expected = head === undefined ? body : `${head}\n${body}`;
        const text = renderTemplate(source, options);
        assertEquals(text, expected);
        assertStrictEquals(renderTemplate(source, options), text);
      }
    }),
    { numRuns: 200 },
  );
});

Deno.test("a text is rendered once for the same values", () => {
  let asked = 0;
  const values: TemplateValues = {
    get N() {
      asked++;
      return 7;
    },
  };
  const source = "{{ N }} counted";
  assertEquals(renderTemplate(source, { values }), "7 counted");
  const first = asked;
  assertEquals(renderTemplate(source, { values }), "7 counted");
  // The key alone asks the second time.
  assertEquals(asked, first + 1);
  assertEquals(renderTemplate(source, { values: { N: 8 } }), "8 counted");
});

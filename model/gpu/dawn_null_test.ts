import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { validateKernels, validateWgsl } from "./dawn_null.ts";

Deno.test("validateKernels() reports syntax, types, missing enables and exceeded limits", async () => {
  const main = (body: string, size = 64) =>
    `@compute @workgroup_size(${size}) fn main() { ${body} }`;
  const findings = await validateKernels([
    { label: "good", source: main("let x = 1u;"), pipeline: true },
    { label: "syntax", source: "fn main( {" },
    { label: "type", source: main("let x: u32 = 1.5;") },
    { label: "enable", source: main("let x = subgroupAdd(1u);") },
    { label: "enabled", source: "enable subgroups;\n" + main("let x = subgroupAdd(1u);") },
    { label: "f16", source: "enable f16;\n" + main("let x = 1.0h;"), pipeline: true },
    { label: "wide", source: main("", 512), pipeline: true },
    { label: "wide, not asked", source: main("", 512) },
    {
      label: "memory",
      source: "var<workgroup> m: array<f32, 5000>;\n" + main("m[0] = 1.0;"),
      pipeline: true,
    },
  ]);
  assertEquals(
    findings.map(({ label, messages }) => [label, messages.length > 0]),
    [
      ["good", false],
      ["syntax", true],
      ["type", true],
      ["enable", true],
      ["enabled", false],
      ["f16", false],
      ["wide", true],
      ["wide, not asked", false],
      ["memory", true],
    ],
  );
  assertStringIncludes(findings[3]?.messages[0] ?? "", "subgroups");
  assertStringIncludes(findings[6]?.messages[0] ?? "", "512");
  assertStringIncludes(findings[8]?.messages[0] ?? "", "16384");
});

Deno.test("validateWgsl() gives the place of an error", async () => {
  const messages = await validateWgsl("const a = 1;\nconst b = c;\n");
  assertEquals(messages.length, 1);
  assert(messages[0]?.startsWith("2:11: "), messages[0]);
});

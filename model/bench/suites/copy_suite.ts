/**
 * Copies: what the device's memory gives, by layout and size.
 *
 * @module
 */

import { Plan } from "../../gpu/plan.ts";
import { copyVariants } from "../../ops/elementwise/copy.ts";
import { Operands, timeCopy } from "../measure/ceilings.ts";
import type { BenchCase, SuiteContext } from "./suite.ts";
import { timePlan } from "../measure/timing.ts";

const MIB = 2 ** 20;

/** Each layout of the copy kernel, and the device's own copy, at sizes that no cache holds. */
export function copySuite(context: SuiteContext): BenchCase[] {
  const { gpu, timing } = context;
  const { software, max_binding_bytes, max_buffer_bytes } = gpu.capabilities;
  const most = Math.floor(Math.min(max_binding_bytes, max_buffer_bytes) / MIB);
  const wanted = software ? [1, 4] : [256, 1024, 2047];
  const sizes = [...new Set(wanted.map((size) => Math.min(size, most)))];
  return sizes.flatMap((size) => {
    const bytes = size * MIB;
    const measured = { bytes: 2 * bytes };
    const layouts = copyVariants(gpu).map((variant): BenchCase => ({
      id: `copy.${size}MiB.${variant.per}x${variant.workgroup}.${variant.order}`,
      suite: "copy",
      params: { bytes, ...variant },
      measure: async () => ({
        timing: await timeCopy(gpu, { bytes, variant }, timing),
        ...measured,
      }),
    }));
    const own: BenchCase = {
      id: `copy.${size}MiB.buffer`,
      suite: "copy",
      params: { bytes, order: "copyBufferToBuffer" },
      async measure() {
        using operands = new Operands(gpu);
        const [from, to] = ["from", "to"].map((name) => operands.tensor(name, [bytes / 16, 4]));
        await operands.fill(from!);
        const plan = new Plan(gpu, "copy");
        plan.copy(from!, to!);
        return { timing: await timePlan(gpu, plan, timing), ...measured };
      },
    };
    return [...layouts, own];
  });
}

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Command, CommandContext } from "../../../pipeline/command.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { LARGEST_SEED, wholeArgument } from "./checkpoint_options.ts";
import { generateCommand } from "./generate_command.ts";
import { benchCommand } from "../speed/bench_command.ts";
import { parityCommand } from "../speed/parity_command.ts";
import { profileCommand } from "../speed/profile_command.ts";

const arguments_ = (values: Record<string, unknown>) => ({ _: [], $0: "test", ...values });

Deno.test("wholeArgument() gives whole numbers of its range, and refuses others by name", () => {
  const value = (n: unknown) => wholeArgument(arguments_({ n }), "n", 1, 200);
  assertEquals([1, 200, undefined].map(value), [1, 200, undefined]);
  for (const n of [0, 201, 1.5, NaN, Infinity, -1, "7"]) {
    assertThrows(() => value(n), UserError, `--n is ${n}; expected a whole number from 1 to 200.`);
  }
  // 2^53 + 1 was typed; float64 has no such number.
  const huge = arguments_({ n: Number("9007199254740993") });
  assertThrows(() => wholeArgument(huge, "n", 0), UserError, "expected a whole number from 0.");
});

Deno.test("a seed of more than 32 bits, which a generator would take for another, is refused", async () => {
  const commands: readonly Command[] = [
    generateCommand,
    benchCommand,
    parityCommand,
    profileCommand,
  ];
  const unused = () => {
    throw new Error("Nothing is to be started");
  };
  const context: CommandContext = {
    program: {
      name: "test",
      description: "",
      root: "/nowhere",
      defaultConfig: "none.yaml",
      loadExperiment: unused,
    },
    command: "test",
    storeDir: "/nowhere",
    json: false,
    debug: false,
    print: unused,
    warn: unused,
    experiment: unused,
    withStore: unused,
  };
  for (const command of commands) {
    const defaults = Object.entries({ ...command.options })
      .map(([name, { default: value }]) => [name, value] as const);
    const run = (seed: number) =>
      Promise.resolve().then(() =>
        command.run(arguments_({ ...Object.fromEntries(defaults), seed }), context)
      );
    for (const seed of [2 ** 32, 2 ** 32 + 1, -1, 0.5]) {
      const error = await assertRejects(() => run(seed), UserError, undefined, command.name);
      assertEquals(
        error.message,
        `--seed is ${seed}; expected a whole number from 0 to ${LARGEST_SEED}.`,
      );
    }
  }
});

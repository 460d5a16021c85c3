import { assertEquals, assertThrows } from "@std/assert";
import type { Experiment } from "../../pipeline/command.ts";
import { UserError } from "../../pipeline/errors.ts";
import type { JsonValue, NodeSpec, Stage } from "../../pipeline/stage.ts";
import { chooseRanks, chosenRanks } from "../train/ranks/chosen.ts";
import { assertSharedGroups, useDataParallel } from "./data_parallel_option.ts";

const use = (value: unknown) => useDataParallel({ _: [], "data-parallel": value });

Deno.test("--data-parallel is a number of processes, and 1 unless given", () => {
  try {
    use("4");
    assertEquals(chosenRanks(), 4);
    use(undefined);
    assertEquals(chosenRanks(), 1);
    for (const wrong of ["0", "-1", "1.5", "two", "1025", ""]) {
      assertThrows(
        () => use(wrong),
        UserError,
        `--data-parallel is "${wrong}"; expected a number of processes, 1 to 1024.`,
      );
    }
    Deno.env.set("ETHOS_DATA_PARALLEL", "2");
    use(undefined);
    assertEquals(chosenRanks(), 2);
    Deno.env.set("ETHOS_DATA_PARALLEL", "many");
    assertThrows(() => use(undefined), UserError, `ETHOS_DATA_PARALLEL is "many"`);
  } finally {
    Deno.env.delete("ETHOS_DATA_PARALLEL");
    chooseRanks(1);
  }
});

Deno.test("Every training of an experiment must have groups that the processes can share", () => {
  const node = (name: string, params: JsonValue, ...inputs: NodeSpec[]): NodeSpec => ({
    stage: { name } as Stage,
    params,
    inputs: { inputs },
  });
  const experiment = (...trainings: JsonValue[]): Experiment => ({
    nodes: [node("report", {}, ...trainings.map((train) => node("train", { train })))],
    configuration: {},
    configPath: "tiny.yaml",
  });
  try {
    assertSharedGroups(experiment({}, { gradient_groups: 3 }));
    chooseRanks(2);
    assertSharedGroups(experiment({ gradient_groups: 4 }, { gradient_groups: 2 }));
    for (const [train, groups] of [[{}, 1], [{ gradient_groups: 3 }, 3]] as const) {
      assertThrows(
        () => assertSharedGroups(experiment({ gradient_groups: 2 }, train)),
        UserError,
        `tiny.yaml: train.gradient_groups is ${groups}; expected a multiple of the 2 processes of --data-parallel.`,
      );
    }
  } finally {
    chooseRanks(1);
  }
});

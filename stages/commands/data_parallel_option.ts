/**
 * `--data-parallel`: how many processes share a training, beside the options of a device.
 *
 * @module
 */

import {
  type Arguments,
  type Experiment,
  type StageOptions,
  stringArgument,
} from "../../pipeline/command.ts";
import { UserError } from "../../pipeline/errors.ts";
import { chooseRanks, chosenRanks, unsharedGroups } from "../train/ranks/chosen.ts";
import { GPU_STAGE_OPTIONS } from "./gpu_option.ts";

const VARIABLE = "ETHOS_DATA_PARALLEL";
/** Ranks that a chain of sums is meant for. */
const MOST_RANKS = 1024;

/** Options of the engine's commands that run stages. */
export const STAGE_OPTIONS: StageOptions = {
  options: {
    ...GPU_STAGE_OPTIONS.options,
    "data-parallel": {
      type: "string",
      requiresArg: true,
      describe:
        `processes that share each training's gradient_groups, through mpirun (default: $${VARIABLE} or 1)`,
    },
  },
  async use(args) {
    await GPU_STAGE_OPTIONS.use(args);
    useDataParallel(args);
  },
};

/**
 * Settles how many ranks trainings have, before anything is started.
 *
 * @throws {UserError} If it is no number of processes.
 */
export function useDataParallel(args: Arguments): void {
  const given = stringArgument(args, "data-parallel");
  const [text, source] = given === undefined
    ? [fromEnvironment(), VARIABLE]
    : [given, "--data-parallel"];
  const ranks = Number(text);
  if (!/^\d+$/.test(text) || ranks < 1 || ranks > MOST_RANKS) {
    throw new UserError(
      `${source} is "${text}"; expected a number of processes, 1 to ${MOST_RANKS}.`,
    );
  }
  chooseRanks(ranks);
}

/**
 * Checks that the chosen ranks can share the groups of every training.
 *
 * @throws {UserError} If they can't.
 */
export function assertSharedGroups({ nodes, configPath }: Experiment): void {
  const ranks = chosenRanks();
  const [groups] = unsharedGroups(nodes, ranks);
  if (groups === undefined) return;
  throw new UserError(
    `${configPath}: train.gradient_groups is ${groups}; expected a multiple of the ${ranks} processes of --data-parallel.`,
  );
}

function fromEnvironment(): string {
  const { state } = Deno.permissions.querySync({ name: "env", variable: VARIABLE });
  return state === "granted" ? Deno.env.get(VARIABLE) || "1" : "1";
}

/**
 * Starting a training from the weights of a trained model, which may have fewer learned positions.
 *
 * @module
 */

import type { Architecture } from "../trunk/architecture.ts";
import { assertSameModel, loadModel, readArchitecture, type TrainingState } from "./checkpoint.ts";

/** Name of the table of learned positions. */
const POSITIONS = "position.weight";

/**
 * Checks that training a model can start from the weights of a file.
 *
 * @param options `lengthen`: the model has more learned positions than the file.
 * @returns The layers of the file's model: those of `architecture`, with the file's positions.
 * @throws {Error} If the file is of another model, or has more positions, or fewer without `lengthen`; naming the difference.
 */
export async function assertStartsFrom(
  path: string,
  architecture: Architecture,
  options: { readonly lengthen: boolean },
): Promise<Architecture> {
  const stored = (await readArchitecture(path)).config.trunk;
  const { trunk } = architecture.config;
  const learned = stored.positions === "learned" && trunk.positions === "learned";
  const [found, wanted] = [stored.max_positions, trunk.max_positions];
  const refuse = (message: string) => new Error(`${path} ${message}`);
  if (options.lengthen && !learned) {
    throw refuse("or the model has no learned positions, which alone can be lengthened");
  }
  if (options.lengthen && found === wanted) {
    throw refuse(`has ${found} positions already, as the model: there is nothing to lengthen`);
  }
  if (learned && found > wanted) {
    throw refuse(`has ${found} positions, the model ${wanted}; expected at least as many`);
  }
  if (learned && found < wanted && !options.lengthen) {
    throw refuse(
      `has ${found} positions, the model ${wanted}; expected as many, or lengthen: true`,
    );
  }
  const of_file = learned
    ? architecture.resized({ trunk: { ...trunk, max_positions: found } })
    : architecture;
  await assertSameModel(path, of_file);
  return of_file;
}

/**
 * Gives a trainer that has not begun the weights of a trained model. Moments and counters stay as they are at a beginning.
 *
 * @param options `lengthen`: the file's rows of learned positions are the first ones, and the others stay as the trainer's seed made them.
 * @throws {Error} If the file does not fit; see {@linkcode assertStartsFrom}.
 */
export async function loadInitialModel(
  path: string,
  trainer: TrainingState,
  options: { readonly lengthen: boolean },
): Promise<void> {
  const architecture = await assertStartsFrom(path, trainer.architecture, options);
  const longer = options.lengthen ? await trainer.readState("value", POSITIONS) : undefined;
  await loadModel(path, {
    architecture,
    writeState(kind, name, values) {
      const table = name === POSITIONS ? longer : undefined;
      table?.set(values);
      trainer.writeState(kind, name, table ?? values);
    },
  });
  await trainer.resume(0, await trainer.readControl());
}

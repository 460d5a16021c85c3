/**
 * Trainers one after the other on one device.
 *
 * @module
 */

import type { Gpu } from "../../gpu/device.ts";
import { Trainer, type TrainerOptions } from "../../training/trainer.ts";

/**
 * Gives `work` a trainer, and comes back when the device has let go of its memory: two that fill a device would not fit beside each
 * other, and what is destroyed is only freed once the queue moves on.
 */
export async function withTrainer<T>(
  gpu: Gpu,
  options: TrainerOptions,
  work: (trainer: Trainer) => Promise<T>,
): Promise<T> {
  const trainer = await Trainer.create(gpu, options);
  let result: T;
  try {
    result = await work(trainer);
  } finally {
    trainer.destroy();
  }
  gpu.device.queue.submit([]);
  await gpu.guard(gpu.device.queue.onSubmittedWorkDone());
  return result;
}

/**
 * Things that all ranks must have alike before they compute: the adapter, the parts, the state, and whether to go on.
 *
 * @module
 */

import type { StateKind } from "../../checkpoint/checkpoint.ts";
import { packFields, unpackFields } from "../../gpu/transfer.ts";
import { CONTROL_STATE } from "../../ops/control.ts";
import { parameterSpecs, statisticSpecs } from "../../trunk/parameters.ts";
import type { Trainer } from "../trainer.ts";
import type { Ranks } from "./ranks.ts";

/** Elements of a broadcast, at most. */
const BROADCAST_ELEMENTS = 2 ** 24;

/** The answer of rank 0 to a question of yes and no, in every rank. */
export async function agree(ranks: Ranks, own: boolean): Promise<boolean> {
  if (ranks.size === 1) return own;
  const answer = Uint8Array.of(Number(own));
  await ranks.broadcast(answer);
  return answer[0] === 1;
}

/**
 * Gives every rank the weights, moments, statistics, loss scale, counters and position of rank 0, so that only that one needs the
 * checkpoint or the model that the training starts from.
 *
 * @throws {Error} If a rank computes on another kind of adapter than rank 0, for their bits would differ.
 */
export async function shareState(trainer: Trainer): Promise<void> {
  const { ranks, architecture } = trainer;
  if (ranks.size === 1) return;
  await assertSameDevice(trainer);
  const first = ranks.rank === 0;
  const position = Float64Array.of(trainer.step);
  await ranks.broadcast(position);
  const control = packFields(CONTROL_STATE, await trainer.readControl());
  const plain = Float32Array.from(control);
  await ranks.broadcast(plain);
  const parameters = parameterSpecs(architecture);
  const tensors = [
    ...[...parameters, ...statisticSpecs(architecture)]
      .map((spec) => ({ ...spec, kind: "value" as StateKind })),
    ...parameters.flatMap((spec) => (["m", "v"] as const).map((kind) => ({ ...spec, kind }))),
  ];
  for (const { kind, name, shape } of tensors) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (first) values.set(await trainer.readState(kind, name));
    for (let at = 0; at < values.length; at += BROADCAST_ELEMENTS) {
      await ranks.broadcast(values.subarray(at, at + BROADCAST_ELEMENTS));
    }
    if (!first) trainer.writeState(kind, name, values);
  }
  if (!first) await trainer.resume(position[0]!, unpackFields(CONTROL_STATE, plain));
}

async function assertSameDevice({ gpu, ranks, parts }: Trainer): Promise<void> {
  const own = `${gpu.adapter.description} (${gpu.runtime}), parts of ${
    parts.map(({ size }) => size).join(", ")
  }`;
  const bytes = new TextEncoder().encode(own);
  const length = Float64Array.of(bytes.length);
  await ranks.broadcast(length);
  const theirs = new Uint8Array(new ArrayBuffer(length[0]!));
  if (ranks.rank === 0) theirs.set(bytes);
  await ranks.broadcast(theirs);
  const text = new TextDecoder().decode(theirs);
  if (text === own) return;
  throw new Error(
    `rank ${ranks.rank} computes on ${own}, rank 0 on ${text}; expected the same, for bits depend on it`,
  );
}

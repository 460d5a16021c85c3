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
 * checkpoint or the model that the training starts from. Before the first update moments are zeros in every rank.
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
  for (const batch of batchesOf(architecture, { moments: position[0]! > 0 })) {
    const values = new Float32Array(batch.size);
    if (first) {
      await Promise.all(
        batch.tensors.map(async ({ kind, name, at }) =>
          values.set(await trainer.readState(kind, name), at)
        ),
      );
    }
    for (let at = 0; at < values.length; at += BROADCAST_ELEMENTS) {
      await ranks.broadcast(values.subarray(at, at + BROADCAST_ELEMENTS));
    }
    if (first) continue;
    for (const { kind, name, at, size } of batch.tensors) {
      trainer.writeState(kind, name, values.subarray(at, at + size));
    }
  }
  if (!first) await trainer.resume(position[0]!, unpackFields(CONTROL_STATE, plain));
}

/** Tensors that are shared together: an answer takes a millisecond or more, and a model has thousands of small ones. */
interface Batch {
  readonly tensors: { kind: StateKind; name: string; at: number; size: number }[];
  /** Elements. */
  size: number;
}

/** The tensors of a training's state in batches of {@linkcode BROADCAST_ELEMENTS} or of one larger tensor. */
function batchesOf(
  architecture: Trainer["architecture"],
  { moments }: { readonly moments: boolean },
): Batch[] {
  const parameters = parameterSpecs(architecture);
  const tensors = [
    ...[...parameters, ...statisticSpecs(architecture)]
      .map((spec) => ({ ...spec, kind: "value" as StateKind })),
    ...(moments
      ? parameters.flatMap((spec) => (["m", "v"] as const).map((kind) => ({ ...spec, kind })))
      : []),
  ];
  const batches: Batch[] = [];
  for (const { kind, name, shape } of tensors) {
    const size = shape.reduce((a, b) => a * b, 1);
    let batch = batches.at(-1);
    if (!batch || batch.size + size > BROADCAST_ELEMENTS) {
      batches.push(batch = { tensors: [], size: 0 });
    }
    batch.tensors.push({ kind, name, at: batch.size, size });
    batch.size += size;
  }
  return batches;
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

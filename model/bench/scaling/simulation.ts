/**
 * The time of one update of a data-parallel training, from rates: an event for each copy, addition and message of `model/training/groups`.
 *
 * A rank has a device, an engine that copies from and to it, a host thread that copies and adds, and a way out to its neighbours. Each does one thing after the
 * other, in the order in which things become possible. The tests hold the messages and bytes against those that ranks sent.
 *
 * @module
 */

import { BinaryHeap } from "@std/data-structures";

/** Numbers that leave the device together. */
export interface SimulatedPart {
  readonly bytes: number;
  /** Share of a group's last micro-batch after which they are final, 0 to 1. */
  readonly ready: number;
}

/** Speeds of a rank's parts. */
export interface Rates {
  /** Between a device and its host, bytes a second. */
  readonly device: number;
  /** Copies on the host's thread, bytes a second: out of what the device wrote, and into what it reads. */
  readonly copy: number;
  /** Additions on the host's thread, bytes of one operand a second. */
  readonly add: number;
  /** Out of a rank to its neighbours, bytes a second. */
  readonly link: number;
  /** From the end of a message's way to its receiver's knowledge, seconds. */
  readonly latency: number;
}

/** An update to simulate. */
export interface SimulatedUpdate {
  readonly ranks: number;
  /** Groups of each rank, and micro-batches of each group. */
  readonly groupsPerRank: number;
  readonly microBatches: number;
  /** Forward and backward pass of a micro-batch, seconds. */
  readonly microBatchSeconds: number;
  /** Norm and optimiser, seconds. */
  readonly optimizerSeconds: number;
  /** In the order in which they become final. */
  readonly parts: readonly SimulatedPart[];
  readonly rates: Rates;
}

/** A simulated update's time, and its messages. */
export interface SimulatedTime {
  /** From its first micro-batch to the last rank's new weights. */
  readonly seconds: number;
  /** Of these, those in which a device computes. */
  readonly compute: number;
  /** Messages that all ranks send. */
  readonly messages: number;
  readonly bytes: number;
}

/** Something that takes a while on one resource, after other things. */
interface Task {
  readonly resource: string;
  readonly seconds: number;
  /** Seconds after its end at which others notice. */
  readonly delay: number;
  readonly next: Task[];
  waiting: number;
  /** When all that it waits for was noticed. */
  possible: number;
  readonly order: number;
}

/** A graph of tasks, and when the last of them ends. */
class Schedule {
  readonly #tasks: Task[] = [];

  add(resource: string, seconds: number, after: readonly Task[], delay = 0): Task {
    const order = this.#tasks.length;
    const task: Task = {
      resource,
      seconds,
      delay,
      next: [],
      waiting: after.length,
      possible: 0,
      order,
    };
    for (const earlier of after) earlier.next.push(task);
    this.#tasks.push(task);
    return task;
  }

  /** Runs all tasks, the earliest possible first, and returns when the last one ends. */
  run(): number {
    const free = new Map<string, number>();
    const heap = new BinaryHeap<Task>((a, b) => a.possible - b.possible || a.order - b.order);
    heap.push(...this.#tasks.filter(({ waiting }) => waiting === 0));
    let last = 0;
    for (let task; (task = heap.pop());) {
      const end = Math.max(task.possible, free.get(task.resource) ?? 0) + task.seconds;
      free.set(task.resource, end);
      last = Math.max(last, end);
      for (const next of task.next) {
        next.possible = Math.max(next.possible, end + task.delay);
        if (--next.waiting === 0) heap.push(next);
      }
    }
    return last;
  }
}

/** Simulates one update. */
export function simulateUpdate(update: SimulatedUpdate): SimulatedTime {
  const { ranks, groupsPerRank, microBatches, microBatchSeconds, optimizerSeconds, parts, rates } =
    update;
  const schedule = new Schedule();
  let messages = 0;
  let bytes = 0;
  const send = (rank: number, part: SimulatedPart, after: Task) => {
    messages++;
    bytes += part.bytes;
    return schedule.add(`out ${rank}`, part.bytes / rates.link, [after], rates.latency);
  };
  const host = (rank: number, seconds: number, after: readonly Task[]) =>
    schedule.add(`host ${rank}`, seconds, after);
  // A rank's parts of its last group on the host, and what the chain waits for.
  const given = Array.from({ length: ranks }, (_, rank) => {
    let before: Task[] = [];
    const device = `device ${rank}`;
    const earlier = (groupsPerRank * microBatches - 1) * microBatchSeconds;
    before = [schedule.add(device, earlier, before)];
    let at = 0;
    return parts.map((part) => {
      const segment = schedule.add(device, (part.ready - at) * microBatchSeconds, before);
      at = part.ready;
      before = [segment];
      const read = schedule.add(`copies ${rank}`, part.bytes / rates.device, [segment]);
      const added = rank === 0 && groupsPerRank > 1 ? part.bytes / rates.add : 0;
      return host(rank, part.bytes / rates.copy + added, [read]);
    });
  });
  const written: Task[][] = Array.from({ length: ranks }, () => []);
  for (const [i, part] of parts.entries()) {
    let sum = given[0]![i]!;
    for (let rank = 1; rank < ranks; rank++) {
      const arrived = send(rank - 1, part, sum);
      const adding = groupsPerRank * part.bytes / rates.add;
      sum = host(rank, adding, [arrived, given[rank]![i]!]);
    }
    let total = sum;
    for (let rank = ranks - 1; rank >= 0; rank--) {
      if (rank < ranks - 1) total = send(rank + 1, part, total);
      const copied = host(rank, part.bytes / rates.copy, [total]);
      written[rank]!.push(schedule.add(`copies ${rank}`, part.bytes / rates.device, [copied]));
    }
  }
  for (const [rank, after] of written.entries()) {
    const end = Math.max(0, 1 - parts.at(-1)!.ready) * microBatchSeconds;
    schedule.add(`device ${rank}`, end + optimizerSeconds, after);
  }
  const compute = groupsPerRank * microBatches * microBatchSeconds + optimizerSeconds;
  return { seconds: schedule.run(), compute, messages, bytes };
}

/**
 * The same in closed form, for more ranks than events are affordable for: the busiest resource does its work for all parts, and the last part goes along the chain
 * and back. The tests hold it to an eighth of the simulation.
 */
export function estimateSeconds(update: SimulatedUpdate): number {
  const { ranks, groupsPerRank, microBatches, microBatchSeconds, optimizerSeconds, parts, rates } =
    update;
  const [first, last] = [parts[0]!, parts.at(-1)!];
  const { bytes } = first;
  const before = (groupsPerRank * microBatches - 1) * microBatchSeconds;
  const give = bytes / rates.device + bytes / rates.copy;
  const busiest = Math.max(
    2 * bytes / rates.copy + groupsPerRank * bytes / rates.add,
    // Only ranks between others send a part up and its total down.
    Math.min(2, ranks - 1) * bytes / rates.link,
    2 * bytes / rates.device,
  );
  const hop = groupsPerRank * bytes / rates.add + 2 * (bytes / rates.link + rates.latency);
  const left = Math.max(
    before + last.ready * microBatchSeconds,
    before + first.ready * microBatchSeconds + (parts.length - 1) * busiest,
  );
  return left + 2 * give + (ranks - 1) * hop + optimizerSeconds;
}

/** Parts of so many bytes in all that become final evenly between two shares of the last micro-batch. */
export function evenParts(
  bytes: number,
  { most, from, to }: { readonly most: number; readonly from: number; readonly to: number },
): SimulatedPart[] {
  const count = Math.ceil(bytes / most);
  return Array.from({ length: count }, (_, i) => ({
    bytes: Math.min(most, bytes - i * most),
    ready: from + (to - from) * (i + 1) / count,
  }));
}

/**
 * The numbers that an update reads, decides and leaves for the host, by name and in the order in which they lie in memory.
 *
 * @module
 */

/** Head of the control tensor: what outlasts an update, so that a checkpoint holds it. */
export const CONTROL_STATE = [
  // Multiplies the loss.
  "loss_scale",
  // Applied updates since the loss scale last changed.
  "good",
  // Applied updates.
  "updates",
  // Skipped updates.
  "skipped",
  // Skipped updates since the last applied one.
  "skipped_in_row",
  // Updates decided so far, applied or not.
  "decided",
] as const;

/** Loss scale and counters. */
export type ControlState = Readonly<Record<(typeof CONTROL_STATE)[number], number>>;

/** The control tensor: the state, then the decisions of the current update. */
export const CONTROL = [
  ...CONTROL_STATE,
  "apply",
  "lr",
  "multiplier",
  "correction1",
  "correction2",
] as const;

/** Values that the host sets before an update. */
export const SCHEDULE = ["lr"] as const;

/** Terms of the loss of an update. */
export const LOSS = ["cross_entropy", "balance"] as const;

/** A row of the ring of metrics, which the host reads a few updates late. */
export const METRICS = [
  "loss",
  "balance",
  "grad_norm",
  "lr",
  "loss_scale",
  "applied",
  "skipped",
  "skipped_in_row",
] as const;

/** Updates whose metrics the ring holds. */
export const METRICS_RING = 256;

/**
 * Paces how often Dawn's binding for Node asks whether the GPU is done.
 *
 * While anything is waited for, the binding asks again and again through the global `setImmediate`, with a new native
 * function every time: 30,000 a second. Deno keeps every native function that has a finalizer in one list, which it searches
 * from the end for each that the garbage collector takes away
 * ({@link https://github.com/denoland/deno/pull/36551 | denoland/deno#36551}). Some seconds of waiting therefore leave
 * functions behind whose removal takes minutes, quadratic in their number, during which JavaScript stands still
 * and everything looks as if a promise had been lost.
 *
 * The longer a wait has taken, the longer the next question is put off, so that a wait takes some hundred functions and
 * fifty more for each second, and hardly more time.
 *
 * @module
 */

/** How much of the time waited so far may pass before the next question: what pacing adds to a wait, at most. */
const SHARE = 0.05;

/** Milliseconds between questions, at most: a wait that has no end still sees others end. */
const MOST = 20;

/** Milliseconds from which on a timer is precise enough; below, the event loop turns. */
const TIMER = 2;

/** The clock that paces the polling. */
interface Clock {
  /** Calls back on the next turn of the event loop. */
  readonly immediate: (callback: () => void) => unknown;
  /** Calls back after some milliseconds. */
  readonly timeout: (callback: () => void, milliseconds: number) => unknown;
  /** Milliseconds since some moment. */
  readonly now: () => number;
}

/**
 * Makes a `setImmediate` for Dawn. A wait lasts for as long as each callback asks for the next one before it returns.
 *
 * @example
 * ```ts
 * import { pacer } from "./dawn_polling.ts";
 *
 * const later = pacer({
 *   immediate: setImmediate,
 *   timeout: setTimeout,
 *   now: () => performance.now(),
 * });
 * later(() => console.log("asked"));
 * ```
 */
export function pacer({ immediate, timeout, now }: Clock): (callback: () => void) => void {
  let began: number | undefined;
  return (callback) => {
    const asked = now();
    const start = began ?? asked;
    const due = asked + Math.min((asked - start) * SHARE, MOST);
    const ask = () => {
      if (now() < due) return void immediate(ask);
      began = start;
      try {
        callback();
      } finally {
        began = undefined;
      }
    };
    if (due - asked < TIMER) immediate(ask);
    else timeout(ask, due - asked);
  };
}

/** Whether a function is native and nameless, as are those that Dawn's binding makes, and nothing that JavaScript can write. */
function isNative(callback: unknown): callback is () => void {
  return typeof callback === "function" && callback.name === "" &&
    Function.prototype.toString.call(callback).includes("[native code]");
}

/**
 * Puts a `setImmediate` in place that paces Dawn and leaves all other callers to the one that was there.
 *
 * @returns Puts the former one back.
 */
export function paceDawn(): () => void {
  const former = globalThis.setImmediate;
  // A test may replace the timers; Dawn's waits are real.
  const { setTimeout, performance } = globalThis;
  const later = pacer({ immediate: former, timeout: setTimeout, now: () => performance.now() });
  const paced = (callback: (...args: unknown[]) => void, ...args: unknown[]) =>
    isNative(callback) ? later(callback) : former(callback, ...args);
  globalThis.setImmediate = Object.assign(paced, former) as typeof setImmediate;
  return () => void (globalThis.setImmediate = former);
}

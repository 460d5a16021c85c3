/**
 * Ctrl-C: the first asks politely, the second doesn't.
 *
 * @module
 */

import { EXIT } from "../errors.ts";

/** Listens to signals until it is disposed. */
export interface Interrupt extends Disposable {
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** As shells say it: 128 plus the signal's number. */
  readonly exitCode: number;
}

/**
 * Starts to listen to SIGINT and SIGTERM.
 *
 * @param tell Says a line to the user.
 * @param end Ends what runs elsewhere, before the second signal ends this process.
 */
export function interruptible(
  tell: (line: string) => void,
  end: () => void = () => {},
): Interrupt {
  const controller = new AbortController();
  let exitCode: number = EXIT.interrupted;
  const handle = (signal: "SIGINT" | "SIGTERM") => () => {
    exitCode = signal === "SIGINT" ? 130 : 143;
    // Everything on disk is safe at any moment, so leaving at once costs only unsaved steps.
    if (controller.signal.aborted) {
      end();
      Deno.exit(exitCode);
    }
    tell("Stopping at a safe place; once more to stop at once.");
    controller.abort(new Error(`Interrupted by ${signal}`));
  };
  const signals = Deno.build.os === "windows"
    ? ["SIGINT"] as const
    : ["SIGINT", "SIGTERM"] as const;
  const handlers = signals.map((signal) => [signal, handle(signal)] as const);
  for (const [signal, handler] of handlers) Deno.addSignalListener(signal, handler);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    [Symbol.dispose]() {
      for (const [signal, handler] of handlers) Deno.removeSignalListener(signal, handler);
    },
  };
}

/**
 * Beats in a thread of its own, because stages compute without giving way, and a heart that stops for a minute has
 * others take the lease over.
 *
 * @module
 */

/** Beats until it is disposed. */
export interface Heartbeat {
  [Symbol.dispose](): void;
}

interface Task {
  readonly path: string;
  readonly milliseconds: number;
}

/** The thread's side of its messages. */
interface Thread {
  onmessage: (event: MessageEvent<Task>) => void;
  postMessage(message: "lost"): void;
}

/** Runs in the thread, from its text: it can use nothing of this module. */
function beat(): void {
  const thread = globalThis as unknown as Thread;
  thread.onmessage = (event) => {
    const { path, milliseconds } = event.data;
    const timer = setInterval(() => {
      const now = new Date();
      try {
        Deno.utimeSync(path, now, now);
      } catch (error) {
        // Anything else (a server that does not answer for now) may pass.
        if (!(error instanceof Deno.errors.NotFound)) return;
        clearInterval(timer);
        thread.postMessage("lost");
      }
    }, milliseconds);
  };
}

/** Sets a file's time every `milliseconds`; `onLost` is called once the file is gone. */
export function startHeartbeat(
  path: string,
  options: { milliseconds: number; onLost: () => void },
): Heartbeat {
  const source = `(${beat.toString()})()`;
  const url = `data:application/javascript,${encodeURIComponent(source)}`;
  const worker = new Worker(url, { type: "module" });
  worker.onmessage = () => options.onLost();
  worker.postMessage({ path, milliseconds: options.milliseconds } satisfies Task);
  return { [Symbol.dispose]: () => worker.terminate() };
}

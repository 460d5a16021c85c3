/**
 * Chromium without a window, driven over its DevTools protocol, for tests of pages.
 *
 * @module
 */

import { TextLineStream } from "@std/streams";

/** Debian's package; `findChromium` installs it where it is absent. */
const PACKAGE = "chromium";

/**
 * The name of Chromium's program.
 *
 * @throws Error when it is not there and can't be installed.
 */
export async function findChromium(): Promise<string> {
  if (await runs("chromium", "--version")) return "chromium";
  const install = ["install", "-y", "-q", "--no-install-recommends", PACKAGE];
  if (!await runs("apt-get", ...install)) {
    // An empty or stale package index is the usual reason.
    await runs("apt-get", "update", "-q");
    if (!await runs("apt-get", ...install)) {
      throw new Error(`Chromium is not here; expected \`apt-get ${install.join(" ")}\` to work.`);
    }
  }
  return "chromium";
}

async function runs(command: string, ...args: string[]): Promise<boolean> {
  try {
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    const options = { args, env, stdin: "null", stdout: "null", stderr: "null" } as const;
    return (await new Deno.Command(command, options).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

interface Answer {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** A browser with one page. */
export class Browser implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stderr: Promise<void>;
  readonly #socket: WebSocket;
  readonly #profile: string;
  readonly #waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  #session: string | undefined;
  #count = 0;
  /** Errors, warnings and refused loads that the page told of. */
  readonly complaints: string[] = [];

  private constructor(
    parts: { child: Deno.ChildProcess; stderr: Promise<void>; socket: WebSocket; profile: string },
  ) {
    this.#child = parts.child;
    this.#stderr = parts.stderr;
    this.#socket = parts.socket;
    this.#profile = parts.profile;
    parts.socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
  }

  /** Starts the browser. `webgpu` gives pages the adapter of SwiftShader, which needs no GPU. */
  static async start(options: { readonly webgpu?: boolean } = {}): Promise<Browser> {
    const program = await findChromium();
    const profile = await Deno.makeTempDir({ prefix: "chromium_" });
    const child = new Deno.Command(program, {
      args: [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        ...options.webgpu ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] : [],
        "--remote-debugging-port=0",
        `--user-data-dir=${profile}`,
        "about:blank",
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const address = Promise.withResolvers<string>();
    const stderr = (async () => {
      const lines = child.stderr.pipeThrough(new TextDecoderStream())
        .pipeThrough(new TextLineStream());
      for await (const line of lines) {
        const found = /DevTools listening on (ws:\S+)/.exec(line);
        if (found !== null) address.resolve(found[1]!);
      }
      address.reject(new Error("Chromium ended before it listened."));
    })();
    const socket = new WebSocket(await address.promise);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error("Chromium's DevTools take no connection."));
    });
    const browser = new Browser({ child, stderr, socket, profile });
    const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId as string;
    for (const domain of ["Page", "Runtime", "Log"]) await browser.send(`${domain}.enable`);
    return browser;
  }

  #take({ id, method, params, result, error }: Answer): void {
    if (id !== undefined) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result ?? {});
      else waiting?.reject(new Error(error.message));
      return;
    }
    if (method === "Runtime.exceptionThrown" || method === "Log.entryAdded") {
      this.complaints.push(JSON.stringify(params));
    }
  }

  /** Sends one command of the protocol. */
  async send(
    method: string,
    params: Record<string, unknown> = {},
  ): Promise<Record<string, unknown>> {
    const id = ++this.#count;
    const waiting = Promise.withResolvers<Record<string, unknown>>();
    this.#waiting.set(id, waiting);
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    this.#socket.send(JSON.stringify({ id, method, params, ...session }));
    return await waiting.promise;
  }

  /** Opens an address in the page. */
  async open(url: string): Promise<void> {
    await this.send("Page.navigate", { url });
  }

  /** The value of an expression in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const options = { expression, returnByValue: true, awaitPromise: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", options);
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  }

  /** Waits until an expression is true in the page. */
  async until(expression: string, milliseconds = 20_000): Promise<void> {
    const end = performance.now() + milliseconds;
    while (!await this.evaluate<boolean>(`Boolean(${expression})`)) {
      if (performance.now() > end) {
        const text = await this.evaluate<string>("document.body.innerText");
        throw new Error(`${expression} did not come true: ${text}\n${this.complaints.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Presses a key that has a name, `ArrowLeft`, or is a character. */
  async press(key: string): Promise<void> {
    const text = key.length === 1 ? { text: key } : {};
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, ...text });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", key });
  }

  /** A picture of the whole page at a width, PNG. */
  async picture(width: number, theme: "light" | "dark"): Promise<Uint8Array> {
    await this.send("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: theme }],
    });
    const size = { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 };
    await this.send("Emulation.setDeviceMetricsOverride", size);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const { data } = await this.send("Page.captureScreenshot", { captureBeyondViewport: true });
    return Uint8Array.from(atob(data as string), (letter) => letter.charCodeAt(0));
  }

  /** Ends the browser. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.onclose = resolve);
    this.#session = undefined;
    this.send("Browser.close").catch(() => {});
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    await Promise.all([this.#child.status, this.#stderr, closed]);
    clearTimeout(timer);
    await Deno.remove(this.#profile, { recursive: true }).catch(() => {});
  }
}

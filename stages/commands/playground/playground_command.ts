/**
 * `playground` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";
import { UserError } from "../../../pipeline/errors.ts";
import {
  CHECKPOINT_OPTIONS,
  checkpointArguments,
  wholeArgument,
} from "../model/checkpoint_options.ts";

const PORT = 8378;

/** Runs a model in the browser: serves a page, or writes it. */
export const playgroundCommand: Command = {
  name: "playground",
  summary: "Run a model in the browser's own WebGPU: text and the experts that each token takes",
  examples: [
    ["playground --checkpoint exported/", `at http://127.0.0.1:${PORT}`],
    [
      "playground --checkpoint 'train[base,seed=1]' --out page",
      "a folder for any web server; a browser opens page/index.html, too",
    ],
  ],
  options: {
    ...CHECKPOINT_OPTIONS,
    port: {
      type: "number",
      requiresArg: true,
      describe: `Port of 127.0.0.1; 0 for any free one (default: ${PORT})`,
    },
    out: {
      type: "string",
      requiresArg: true,
      describe: "Folder to make of the page, instead of serving it",
    },
  },
  async run(args, { storeDir, json, print, warn }) {
    const port = wholeArgument(args, "port", 0, 65535);
    const out = stringArgument(args, "out");
    if (out !== undefined && port !== undefined) {
      throw new UserError(`--port is ${port} and --out is ${out}; expected one of the two.`);
    }
    const [{ servePlayground, writePlayground }, { interruptible }] = await Promise.all([
      import("./playground.ts"),
      import("../../../pipeline/run/interrupt.ts"),
    ]);
    const options = { ...checkpointArguments(args), storeDir };
    if (out !== undefined) {
      const written = await writePlayground({ ...options, out });
      if (json) return print(JSON.stringify(written));
      return print(`${options.checkpoint} → ${written.folder}; open index.html there`);
    }
    using interrupt = interruptible(() => {});
    await servePlayground({
      ...options,
      port: port ?? PORT,
      signal: interrupt.signal,
      warn,
      ready: ({ url }) =>
        print(json ? JSON.stringify({ url }) : `The playground is at ${url} (Ctrl-C ends it)`),
    });
  },
};

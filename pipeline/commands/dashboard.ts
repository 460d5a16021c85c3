/**
 * `dashboard`: runs, their nodes and their curves in a browser.
 *
 * @module
 */

import { assertStore, type Command } from "../command.ts";
import { UserError } from "../errors.ts";

const PORT = 8377;

/** Serves the dashboard until it is interrupted. */
export const dashboard: Command = {
  name: "dashboard",
  summary: "Watch runs in a browser: nodes, curves, samples, results; on this machine alone",
  examples: [
    ["dashboard", `at http://127.0.0.1:${PORT}`],
    ["dashboard --port 0", "at any free port, which it prints"],
  ],
  options: {
    port: {
      type: "number",
      default: PORT,
      requiresArg: true,
      describe: "Port of 127.0.0.1; 0 for any free one",
    },
  },
  showsPages: true,
  async run(args, context) {
    const port = args["port"] as number;
    if (!(Number.isInteger(port) && port >= 0 && port <= 65535)) {
      throw new UserError(`--port is ${port}; expected an integer from 0 to 65535.`);
    }
    await assertStore(context);
    const [{ serveDashboard }, { interruptible }] = await Promise.all([
      import("../dashboard/server.ts"),
      import("../run/interrupt.ts"),
    ]);
    using interrupt = interruptible(() => {});
    const { program, storeDir, json, print, warn } = context;
    const title = program.title ?? program.name;
    const pages = await program.pages?.open(args, { root: program.root, title });
    const { url, finished } = serveDashboard({
      storeDir,
      port,
      title,
      ...pages && { pages },
      ...program.dashboard !== undefined && { hints: program.dashboard },
      signal: interrupt.signal,
      warn,
    });
    print(json ? JSON.stringify({ url }) : `The dashboard is at ${url} (Ctrl-C ends it)`);
    await finished;
  },
};

/**
 * `serve` as a command of the command line.
 *
 * @module
 */

import { type Command, listArgument, stringArgument } from "../../../pipeline/command.ts";
import { UserError } from "../../../pipeline/errors.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";
import {
  MODEL_OPTIONS,
  modelArguments,
  PRECISION_OPTION,
  wholeArgument,
} from "../model/checkpoint_options.ts";

/** Serves a model until it is interrupted. */
export const serveCommand: Command = {
  name: "serve",
  summary: "Serve a model over HTTP, in the form of OpenAI's completions",
  examples: [
    ["serve --checkpoint 'train[base,seed=1]' --name base", "at http://127.0.0.1:8000/v1"],
    ["serve --model ./llama-3.1-8b --precision mixed --port 9000", "a published one"],
  ],
  options: {
    ...MODEL_OPTIONS,
    host: {
      type: "string",
      default: "127.0.0.1",
      requiresArg: true,
      describe: "Interface to listen on; there is no password, so others than loopback are open",
    },
    port: { type: "number", default: 8000, requiresArg: true, describe: "0 for any free port" },
    "allow-host": {
      type: "string",
      array: true,
      nargs: 1,
      requiresArg: true,
      describe: "Further name that clients may call the server; may be repeated",
    },
    name: {
      type: "string",
      requiresArg: true,
      describe: "Name that clients give the model (default: its own)",
    },
    context: {
      type: "number",
      default: 2048,
      requiresArg: true,
      describe: "Tokens of prompt and completion together",
    },
    sequences: {
      type: "number",
      default: 8,
      requiresArg: true,
      describe: "Completions generated at the same time, each with a cache",
    },
    "batch-tokens": {
      type: "number",
      default: 2048,
      requiresArg: true,
      describe: "Tokens of prompts scored at once",
    },
    queue: {
      type: "number",
      default: 256,
      requiresArg: true,
      describe: "Completions that are waited for at most; more are refused with 429",
    },
    "body-bytes": {
      type: "number",
      default: 4 * 2 ** 20,
      requiresArg: true,
      describe: "Bytes of a request at most",
    },
    "request-tokens": {
      type: "number",
      default: 2 ** 18,
      requiresArg: true,
      describe: "Tokens of a request at most, its prompts and completions together",
    },
    ...PRECISION_OPTION,
    ...GPU_OPTION,
  },
  async run(args, { storeDir, json, print, warn }) {
    const [{ serve }, { interruptible }] = await Promise.all([
      import("./serve.ts"),
      import("../../../pipeline/run/interrupt.ts"),
    ]);
    const name = stringArgument(args, "name");
    if (name === "") throw new UserError("--name is empty; expected a name of the model.");
    const options = {
      ...modelArguments(args),
      host: stringArgument(args, "host")!,
      port: wholeArgument(args, "port", 0, 65535)!,
      allowed_hosts: listArgument(args, "allow-host"),
      ...(name === undefined ? {} : { name }),
      context: wholeArgument(args, "context", 2)!,
      sequences: wholeArgument(args, "sequences", 1, 256)!,
      batch_tokens: wholeArgument(args, "batch-tokens", 1, 2 ** 20)!,
      queue: wholeArgument(args, "queue", 1, 2 ** 20)!,
      body_bytes: wholeArgument(args, "body-bytes", 1, 2 ** 30)!,
      request_tokens: wholeArgument(args, "request-tokens", 1, 2 ** 30)!,
      precision: stringArgument(args, "precision") as "f32" | "mixed",
    };
    using interrupt = interruptible(warn);
    await serve({
      ...options,
      storeDir,
      signal: interrupt.signal,
      gpu: () => commandGpu(args),
      warn,
      ready: (served) =>
        print(json ? JSON.stringify(served) : `Serving ${served.model} at ${served.url}`),
    });
  },
};

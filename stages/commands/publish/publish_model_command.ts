/**
 * `publish-model` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";

/** Puts an exported model on the Hugging Face hub. */
export const publishModelCommand: Command = {
  name: "publish-model",
  summary: "Put an exported model on the Hugging Face hub, as one commit",
  examples: [
    ["publish-model --folder exported --repo me/ethos-small --dry-run", "files and card"],
    ["publish-model --folder exported --repo me/ethos-small", "a private repository"],
  ],
  options: {
    folder: {
      type: "string",
      requiresArg: true,
      demandOption: true,
      describe: "Folder that export-model wrote; its README.md is the card",
    },
    repo: {
      type: "string",
      requiresArg: true,
      demandOption: true,
      describe: "ORG/NAME on the hub; made unless it is there",
    },
    private: {
      type: "boolean",
      default: true,
      describe: "A repository that is made is private; --no-private makes it public",
    },
    message: {
      type: "string",
      default: "Publish the model",
      requiresArg: true,
      describe: "Title of the commit",
    },
    "dry-run": {
      type: "boolean",
      default: false,
      describe: "List the files and the card, and ask the hub nothing",
    },
  },
  async run(args, { json, print }) {
    const { publishModel } = await import("./publish_model.ts");
    const result = await publishModel({
      folder: stringArgument(args, "folder") ?? "",
      repo: stringArgument(args, "repo") ?? "",
      private: args["private"] === true,
      message: stringArgument(args, "message") ?? "",
      dryRun: args["dry-run"] === true,
    });
    if (json) return print(JSON.stringify(result));
    const { published, files, card, repo } = result;
    for (const { path, size } of files) print(`${String(size).padStart(14)}  ${path}`);
    if (published === undefined) {
      print(`\nNothing was sent to ${repo}. The card:\n\n${card}`);
      return;
    }
    print(
      `\n${published.url} at ${published.commit.slice(0, 12)}${
        published.created ? "" : "; the repository was there, and is as visible as it was"
      }`,
    );
  },
};

/**
 * `generate` as a command of the command line.
 *
 * @module
 */

import { type Command, stringArgument } from "../../../pipeline/command.ts";
import {
  LARGEST_SEED,
  MODEL_OPTIONS,
  modelArguments,
  PRECISION_OPTION,
  wholeArgument,
} from "./checkpoint_options.ts";
import { commandGpu, GPU_OPTION } from "../gpu_option.ts";

/** Streams text from a trained checkpoint. */
export const generateCommand: Command = {
  name: "generate",
  summary: "Continue a prompt with a trained model",
  examples: [
    [
      "generate --checkpoint 'train[base,seed=1]' --prompt 'Once upon a time'",
      "a model of the store",
    ],
    [
      "generate --checkpoint 'train[base,seed=1]' --prompt 'Once' --num-stories 3 --min-p 0.05",
      "three texts at once, each with a seed of its own",
    ],
    [
      "generate --checkpoint exported/ --prompt 'It was' --temperature 0",
      "an exported one, greedily",
    ],
    [
      "generate --model EleutherAI/pythia-70m-deduped --prompt 'It was'",
      "a published one of the Hugging Face hub",
    ],
  ],
  options: {
    ...MODEL_OPTIONS,
    prompt: {
      type: "string",
      default: "",
      describe: "Text to continue; a document begins when it is empty",
    },
    "max-tokens": {
      type: "number",
      default: 128,
      requiresArg: true,
      describe: "Tokens to generate at most",
    },
    context: {
      type: "number",
      default: 4096,
      requiresArg: true,
      describe: "Tokens that prompt and text may have together",
    },
    temperature: {
      type: "number",
      default: 0.8,
      requiresArg: true,
      describe: "Divides the logits; 0 always takes the most likely token",
    },
    "top-k": {
      type: "number",
      default: 0,
      requiresArg: true,
      describe: "Draw from the k most likely tokens only; 0 for all",
    },
    "top-p": {
      type: "number",
      default: 1,
      requiresArg: true,
      describe: "Draw from the fewest tokens whose probabilities come to p",
    },
    "min-p": {
      type: "number",
      default: 0,
      requiresArg: true,
      describe: "Draw from tokens at least p times as likely as the most likely one",
    },
    "repetition-penalty": {
      type: "number",
      default: 1,
      requiresArg: true,
      describe: "Above 1, tokens that were there are less likely",
    },
    seed: { type: "number", default: 0, requiresArg: true, describe: "Of the draws" },
    "num-stories": {
      type: "number",
      default: 1,
      requiresArg: true,
      describe: "Texts to make of the prompt; text i draws with seed + i",
    },
    "stories-at-once": {
      type: "number",
      default: 16,
      requiresArg: true,
      describe: "Texts that are decoded at once, each with a cache of its own in the GPU's memory",
    },
    slide: {
      type: "boolean",
      default: true,
      describe: "Read the last half of a full context anew; --no-slide ends the text there",
    },
    ...PRECISION_OPTION,
    ...GPU_OPTION,
  },
  async run(args, { storeDir, json, print, warn }) {
    const { generate } = await import("./generate.ts");
    const prompt = stringArgument(args, "prompt") ?? "";
    const encoder = new TextEncoder();
    const write = (text: string) => {
      const bytes = encoder.encode(text);
      for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
    };
    const num_stories = wholeArgument(args, "num-stories", 1)!;
    let begun = -1;
    const begin = (story: number) => {
      for (; begun < story; begun++) write(`${begun < 0 ? "" : "\n\n"}${prompt}`);
    };
    const result = await generate({
      ...modelArguments(args),
      storeDir,
      warn,
      prompt,
      max_tokens: wholeArgument(args, "max-tokens", 1)!,
      context: wholeArgument(args, "context", 2)!,
      sampling: {
        temperature: args["temperature"],
        top_k: args["top-k"],
        top_p: args["top-p"],
        min_p: args["min-p"],
        repetition_penalty: args["repetition-penalty"],
      },
      seed: wholeArgument(args, "seed", 0, LARGEST_SEED)!,
      precision: stringArgument(args, "precision") as "f32" | "mixed",
      num_stories,
      stories_at_once: wholeArgument(args, "stories-at-once", 1)!,
      slide: args["slide"] as boolean,
      gpu: () => commandGpu(args),
      write(text, story) {
        if (json) return;
        begin(story);
        write(text);
      },
    });
    if (json) return print(JSON.stringify(result));
    begin(num_stories - 1);
    write("\n");
    if (!Deno.stderr.isTerminal()) return;
    const speed = (value: number | undefined) => value === undefined ? "–" : value.toFixed(1);
    for (const story of result.stories) {
      warn(
        `${story.prompt_tokens} tokens read at ${
          speed(story.prefill_tokens_per_second)
        } tokens/s, ` +
          `${story.tokens} generated at ${
            speed(story.decode_tokens_per_second)
          } tokens/s; ended by ${story.finish}`,
      );
    }
  },
};

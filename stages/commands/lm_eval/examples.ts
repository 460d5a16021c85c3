/**
 * From documents to what a model scores: contexts with few-shot examples, and the continuations that follow them.
 *
 * @module
 */

import { messageOf, UserError } from "../../../pipeline/errors.ts";
import type { TaskDocument } from "./documents.ts";
import { PythonRandom } from "./python_random.ts";
import type { Task } from "./task_file.ts";
import { TaskTemplate } from "./template.ts";

/** A document's context with its continuations. */
export interface Example {
  readonly context: string;
  /** Texts to score after the context: one, or one a choice. */
  readonly continuations: readonly string[];
  /** The choices without what stands before them. */
  readonly choices: readonly string[];
  /** Numbers of the right choices; several where any of them is right. */
  readonly gold: readonly number[];
}

/** Documents to build examples of. */
export interface ExampleOptions {
  /** Documents to score. */
  readonly documents: readonly TaskDocument[];
  /** Documents to show before them. */
  readonly shown: readonly TaskDocument[];
  readonly num_fewshot: number;
  /** Of the draws of few-shot examples. */
  readonly seed: number;
}

/** The split whose documents are scored. */
export function scoredSplit(task: Task): string {
  return (task.test_split ?? task.validation_split)!;
}

/** The split whose documents are shown as examples, unless the task has examples of its own. */
export function shownSplit(task: Task): string {
  const { fewshot_config, fewshot_split, training_split, validation_split } = task;
  return fewshot_config?.split ?? fewshot_split ?? training_split ?? validation_split ??
    scoredSplit(task);
}

/**
 * Builds the examples of a task.
 *
 * Few-shot examples are drawn for one document after another by one generator, as the harness draws them; a document is not shown before
 * itself.
 *
 * @throws {UserError} If a template names a field that a document lacks, an answer is none of the choices, or there are too few examples.
 */
export function buildExamples(task: Task, options: ExampleOptions): Example[] {
  const { documents, shown, num_fewshot, seed } = options;
  const build = new ExampleBuilder(task);
  const random = new PythonRandom(seed);
  const first = task.fewshot_config?.sampler === "first_n";
  // Where the splits are the same, one more is drawn: one of them may be the document itself.
  const same = (task.fewshot_split ?? null) === (task.test_split ?? null);
  const drawn = num_fewshot + (same ? 1 : 0);
  if (num_fewshot > 0 && drawn > shown.length) {
    throw new UserError(
      `${task.file}: ${drawn} examples are to be drawn of ${shown.length} documents of the split ${
        shownSplit(task)
      }; lower --num-fewshot.`,
    );
  }
  return documents.map((document, i) => {
    const examples = num_fewshot === 0
      ? []
      : first
      ? shown.slice(0, drawn)
      : random.sample(shown, drawn);
    const own = JSON.stringify(document);
    const others = examples.filter((example) => JSON.stringify(example) !== own)
      .slice(0, num_fewshot);
    try {
      return build.example(document, others);
    } catch (error) {
      throw new UserError(
        `${task.file}: document ${i} of ${scoredSplit(task)}: ${messageOf(error)}.`,
        { cause: error },
      );
    }
  });
}

/** The templates of a task. */
class ExampleBuilder {
  readonly #task: Task;
  readonly #templates = new Map<string, TaskTemplate>();

  constructor(task: Task) {
    this.#task = task;
    for (const key of ["description", "doc_to_text", "doc_to_target", "doc_to_choice"] as const) {
      const source = task[key];
      if (typeof source !== "string") continue;
      try {
        this.#templates.set(key, new TaskTemplate(source));
      } catch (error) {
        throw new UserError(`${task.file}: \`${key}\` is no template: ${messageOf(error)}.`, {
          cause: error,
        });
      }
    }
  }

  example(document: TaskDocument, others: readonly TaskDocument[]): Example {
    const { output_type, target_delimiter } = this.#task;
    const description = this.#templates.get("description")?.render(document) ?? "";
    const context = description + others.map((other) => this.#shown(other)).join("") +
      this.#text(document);
    const target = this.#target(document);
    if (output_type === "loglikelihood") {
      if (typeof target !== "string") throw notA("doc_to_target", target, "a text");
      return { context, continuations: [target], choices: [target], gold: [0] };
    }
    const choices = this.#choices(document);
    const continuations = choices.map((choice) => target_delimiter + choice);
    return { context, continuations, choices, gold: goldOf(target, choices) };
  }

  /** A document with its answer, and what stands between examples. */
  #shown(document: TaskDocument): string {
    const { target_delimiter, fewshot_delimiter, doc_to_choice } = this.#task;
    const target = this.#target(document);
    const text = this.#text(document);
    if (target === "") return text;
    const answer = Array.isArray(target)
      ? String(target[0])
      : typeof target === "string" || (doc_to_choice ?? null) === null
      ? String(target)
      : this.#choices(document)[goldOf(target, this.#choices(document))[0]!]!;
    return text + target_delimiter + answer + fewshot_delimiter;
  }

  #text(document: TaskDocument): string {
    const text = this.#field("doc_to_text", document) ??
      this.#templates.get("doc_to_text")!.render(document);
    if (typeof text !== "string") throw notA("doc_to_text", text, "a text");
    return text;
  }

  #target(document: TaskDocument): unknown {
    const { doc_to_target, doc_to_choice } = this.#task;
    if (typeof doc_to_target === "number") return doc_to_target;
    const field = this.#field("doc_to_target", document);
    if (field !== undefined) return field;
    const template = this.#templates.get("doc_to_target")!;
    if ((doc_to_choice ?? null) === null) return template.render(document);
    const target = template.value(document);
    // An answer that is spelled as a number is the number of a choice.
    return typeof target === "string" && /^\d+$/.test(target) ? Number(target) : target;
  }

  #choices(document: TaskDocument): readonly string[] {
    const { doc_to_choice } = this.#task;
    const found = typeof doc_to_choice === "string"
      ? this.#field("doc_to_choice", document) ??
        this.#templates.get("doc_to_choice")!.value(document)
      : Array.isArray(doc_to_choice)
      ? doc_to_choice
      : Object.values(doc_to_choice!);
    if (!Array.isArray(found) || found.length === 0) {
      throw notA("doc_to_choice", found, "a list of texts");
    }
    return found.map((choice) => {
      const text = String(choice);
      if (text === "") throw new Error("`doc_to_choice` has an empty choice; expected texts");
      return text;
    });
  }

  /** The field that a key names instead of a template. */
  #field(
    key: "doc_to_text" | "doc_to_target" | "doc_to_choice",
    document: TaskDocument,
  ): unknown {
    const name = this.#task[key];
    return typeof name === "string" && Object.hasOwn(document, name) ? document[name] : undefined;
  }
}

function notA(key: string, value: unknown, expected: string): Error {
  return new Error(`\`${key}\` gives ${JSON.stringify(value) ?? value}; expected ${expected}`);
}

/** Numbers of the right choices. */
function goldOf(target: unknown, choices: readonly string[]): number[] {
  return [target].flat().map((one) => {
    const at = typeof one === "string" ? choices.indexOf(one) : one;
    if (typeof at === "number" && Number.isInteger(at) && at >= 0 && at < choices.length) return at;
    throw notA("doc_to_target", one, `one of ${choices.length} choices`);
  });
}

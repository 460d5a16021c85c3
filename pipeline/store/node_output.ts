/**
 * Gives a stage the outputs of the nodes that it reads.
 *
 * @module
 */

import type { GraphNode } from "../graph/graph.ts";
import type { NodeFiles } from "./node_files.ts";
import type { NodeRecord, PublishedOutput } from "./records/records.ts";
import type { JsonValue, MetricRow, NodeOutput } from "../stage.ts";
import { suggestion } from "../terminal/suggest.ts";

/** A published node, as its readers see it. */
export class PublishedNode implements NodeOutput {
  readonly #node: GraphNode;
  readonly #record: NodeRecord;
  readonly #store: NodeFiles;

  /** Joins a node of this experiment with the record that it shares with all nodes of the same key. */
  constructor(node: GraphNode, record: NodeRecord, store: NodeFiles) {
    this.#node = node;
    this.#record = record;
    this.#store = store;
  }

  get name(): string {
    return this.#node.name;
  }

  get stage(): string {
    return this.#node.stage.name;
  }

  get key(): string {
    return this.#record.key;
  }

  get params(): JsonValue {
    return this.#node.params;
  }

  get labels(): Readonly<Record<string, JsonValue>> {
    return this.#node.labels;
  }

  get provenance(): Readonly<Record<string, JsonValue>> {
    return this.#record.provenance;
  }

  json(name: string): JsonValue {
    return this.#output(name, "json").value;
  }

  measured(name: string): JsonValue {
    return this.#output(name, "measured").value;
  }

  file(name: string, inside?: string): string {
    if (inside === undefined) {
      return this.#store.objects.path(this.#output(name, "file").sha256);
    }
    const { files } = this.#output(name, "directory");
    const file = files.find((file) => file.path === inside);
    if (file === undefined) {
      const known = files.map((file) => file.path);
      throw new Error(
        `Output \`${name}\` of \`${this.name}\` has no file \`${inside}\`.${
          suggestion(inside, known)
        }`,
      );
    }
    return this.#store.objects.path(file.sha256);
  }

  files(name: string): readonly string[] {
    return this.#output(name, "directory").files.map((file) => file.path);
  }

  async metrics(): Promise<readonly MetricRow[]> {
    return await this.#store.metrics(this.#record);
  }

  #output<K extends PublishedOutput["kind"]>(
    name: string,
    kind: K,
  ): Extract<PublishedOutput, { kind: K }> {
    const output = this.#record.outputs[name];
    if (output === undefined) {
      const known = Object.keys(this.#record.outputs);
      throw new Error(
        `\`${this.name}\` has no output \`${name}\`.${suggestion(name, known)} ` +
          `It has ${known.join(", ") || "none"}.`,
      );
    }
    if (output.kind !== kind) {
      throw new Error(
        `Output \`${name}\` of \`${this.name}\` is a ${output.kind} output, not a ${kind} one.`,
      );
    }
    return output as Extract<PublishedOutput, { kind: K }>;
  }
}

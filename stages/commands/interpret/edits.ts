/**
 * Edits of a model's experts, as a user names them: experts to leave out, clusters of them, and codes to replace.
 *
 * @module
 */

import { z } from "zod";
import type { InferenceModel } from "../../../model/inference/model.ts";
import type { ExpertEdit, NewCode } from "../../../model/interpret/ablation.ts";
import { readCodes, requireOwnCodes } from "../../../model/interpret/codes.ts";
import {
  type ExpertLayer,
  expertLayer,
  expertLayers,
  expertNumbers,
} from "../../../model/interpret/expert_layers.ts";
import type { Architecture } from "../../../model/trunk/architecture.ts";
import { messageOf, UserError } from "../../../pipeline/errors.ts";
import { clusterExperts } from "../../experts/clusters.ts";

/** Options that edit a model. */
export interface EditOptions {
  /** `LAYER:ID` or `LAYER:cCLUSTER`, with commas between them. */
  readonly without_experts?: string;
  /** `LAYER:ID=LAYER:ID` or `LAYER:ID=FILE`. */
  readonly replace_code?: readonly string[];
  /** Clusters of a layer; see `clusterExperts`. */
  readonly clusters: number;
  readonly seed: number;
  /** Random edits of experts of equal use. */
  readonly controls: number;
}

/** An edit that was read: it needs the model's weights to be made. */
export interface ParsedEdit {
  /** The layers with experts. */
  readonly layers: readonly ExpertLayer[];
  /** Makes the edit. @throws {UserError} If codes do not fit. */
  make(model: InferenceModel): Promise<ExpertEdit>;
}

/** A code that is read from a file: an array of numbers. */
const codeSchema = z.array(z.number()).min(1);

/**
 * Reads edits, as far as the configuration says whether they can be.
 *
 * @returns Nothing where no edit is asked for.
 * @throws {UserError} In one line: no experts, an unknown layer, expert or cluster, or a file that is no code.
 */
export async function parseEdit(
  architecture: Architecture,
  options: EditOptions,
): Promise<ParsedEdit | undefined> {
  const { without_experts, replace_code = [], clusters, seed } = options;
  if (without_experts === undefined && replace_code.length === 0) return undefined;
  const layers = expertLayers(architecture);
  const parts = (without_experts?.split(",") ?? []).map((text) =>
    parseExpert(layers, text.trim(), { option: "--without-experts", clusters })
  );
  const replacements: { readonly to: Single; readonly from: Single | readonly number[] }[] = [];
  for (const text of replace_code) {
    replacements.push(await parseReplacement(layers, text));
  }
  return {
    layers,
    async make(model) {
      const without = new Map<number, Set<string>>();
      const add = (layer: number, names: readonly string[]) =>
        without.set(layer, (without.get(layer) ?? new Set()).union(new Set(names)));
      for (const part of parts) {
        if ("expert" in part) {
          add(part.layer.layer, [part.expert]);
          continue;
        }
        const { names, labels } = await clusterExperts(model, part.layer, { clusters, seed });
        add(part.layer.layer, names.filter((_, e) => labels[e] === part.cluster));
      }
      const codes: NewCode[] = [];
      for (const { to: { layer, expert }, from } of replacements) {
        const { width } = await readCodes(model, layer, [expert]);
        const code = "expert" in from
          ? (await readCodes(model, from.layer, [from.expert])).values
          : from;
        if (code.length !== width) {
          throw new UserError(
            `--replace-code: the code of ${layer.layer}:${expert} has ${width} numbers, got ${code.length}.`,
          );
        }
        codes.push({ layer: layer.layer, expert, code: Float32Array.from(code) });
      }
      return {
        name: [without_experts, ...replace_code].filter((text) => text !== undefined).join(" "),
        without: new Map(Array.from(without, ([layer, names]) => [layer, [...names]])),
        codes,
      };
    },
  };
}

/** One expert. */
interface Single {
  readonly layer: ExpertLayer;
  readonly expert: string;
}

/** One cluster. */
interface Cluster {
  readonly layer: ExpertLayer;
  readonly cluster: number;
}

function parseExpert(
  layers: readonly ExpertLayer[],
  text: string,
  options: { readonly option: string; readonly clusters: number },
): Single | Cluster {
  const { option, clusters } = options;
  const [, number, cluster, expert] = /^(\d+):(?:c(\d+)|([\d.]+))$/.exec(text) ?? [];
  if (number === undefined) {
    const also = clusters > 0 ? " or LAYER:cCLUSTER" : "";
    throw new UserError(`${option} has ${JSON.stringify(text)}; expected LAYER:ID${also}.`);
  }
  return usable(option, () => {
    const layer = expertLayer(layers, Number(number));
    if (expert !== undefined) {
      expertNumbers(layer, expert);
      return { layer, expert };
    }
    if (clusters === 0) throw new RangeError(`${text} is a cluster; expected LAYER:ID`);
    if (layer.axes > 1) {
      throw new RangeError(`Layer ${layer.layer} has too many experts to cluster all of`);
    }
    if (clusters > layer.experts || Number(cluster) >= clusters) {
      const most = Math.min(clusters, layer.experts) - 1;
      throw new RangeError(`${text} is no cluster; expected c0 to c${most} (see --clusters)`);
    }
    return { layer, cluster: Number(cluster) };
  });
}

async function parseReplacement(
  layers: readonly ExpertLayer[],
  text: string,
): Promise<{ readonly to: Single; readonly from: Single | readonly number[] }> {
  const option = "--replace-code";
  const [place, source] = [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)];
  if (!text.includes("=") || source === "") {
    throw new UserError(
      `${option} is ${JSON.stringify(text)}; expected LAYER:ID=LAYER:ID or LAYER:ID=FILE.`,
    );
  }
  const single = (text: string) => parseExpert(layers, text, { option, clusters: 0 }) as Single;
  const to = single(place);
  usable(option, () => requireOwnCodes(to.layer));
  if (/^\d+:[\d.]+$/.test(source)) return { to, from: single(source) };
  let json: unknown;
  try {
    json = JSON.parse(await Deno.readTextFile(source));
  } catch (error) {
    throw new UserError(`${option}: ${source} can't be read as JSON: ${messageOf(error)}.`, {
      cause: error,
    });
  }
  const parsed = codeSchema.safeParse(json);
  if (!parsed.success) {
    throw new UserError(`${option}: ${source} is no code; expected an array of numbers.`);
  }
  return { to, from: parsed.data };
}

/** Turns what is out of range into the user's error. */
function usable<T>(option: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`${option}: ${error.message}.`, { cause: error });
  }
}

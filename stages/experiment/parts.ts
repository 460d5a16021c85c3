/**
 * The real parts of the experiment: every stage, and the parts of them that the configuration's schema needs.
 *
 * @module
 */

import { ablate } from "../ablate/ablate.ts";
import { benchmark } from "../benchmark/benchmark.ts";
import { dataSchema, download } from "../download/download.ts";
import { evaluate } from "../evaluate/evaluate.ts";
import type { LoadExperimentParts } from "./load.ts";
import { report } from "../report/report.ts";
import { filesFingerprint } from "../download/sources/fingerprint.ts";
import { readInputHashes, writeInputHashes } from "./input_hashes.ts";
import { tokenize, tokenizerSchema, vocabularySize } from "../tokenize/tokenize.ts";
import { train } from "../train/train.ts";

/** The arguments of {@linkcode loadExperiment} from the command line. */
export const PARTS: LoadExperimentParts = {
  stages: { download, tokenize, train, evaluate, benchmark, ablate, report },
  data: dataSchema,
  tokenizer: tokenizerSchema,
  vocabularySize: (tokenizer) => vocabularySize(tokenizerSchema.parse(tokenizer)),
  async prepareData(section, request) {
    const data = dataSchema.parse(section);
    if (data.source !== "files" || data.files === undefined) return section;
    // Changed files are other data: their digest is part of the download's key.
    const { storeDir, verifyInputs = false, warn } = request;
    if (storeDir !== undefined) await readInputHashes(storeDir);
    const fingerprint = await filesFingerprint(data.files, { verify: verifyInputs, warn });
    return JSON.parse(JSON.stringify({ ...data, files: { ...data.files, fingerprint } }));
  },
  async planInitial(initial, model, request) {
    const { planInitial } = await import("./initial_models.ts");
    return await planInitial(initial, model, request);
  },
  remember: writeInputHashes,
};

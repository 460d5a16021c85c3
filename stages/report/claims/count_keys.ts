/**
 * Names of the counts that claims are held against, and how each is counted.
 *
 * @module
 */

/** Descriptions of the counts; `counts.ts` computes them. */
export const COUNT_MEANINGS = {
  "ethos.stored": "parameters of configs/paper.yaml",
  "ethos.active":
    "parameters a token of configs/paper.yaml, without latent codes that are not looked up",
  "ethos.theoretical": "parameters with the experts of the 14 sparse layers stored",
  "ethos.theoretical_all": "the same with experts in all 16 layers, beside the embedding alone",
  "ethos.flops_gain": "2 × theoretical parameters / forward FLOP a token",
  "ethos.flops_gain_shared": "the same, every expert generated once a step",
  "ethos.peer_layer": "u and v of 262,144 experts",
  "ethos.latent_layer": "latent codes of one layer",
  "ethos.latent_ratio": "stored experts / latent codes of a layer",
  "ethos.layer_ratio":
    "parameters of a PEER layer / of an ETHOS layer, router and generator included",
  "ethos.latent_share": "latent codes of the 14 sparse layers / stored parameters",
  "ethos.attention": "attention of all 16 layers",
  "ethos.scores": "dot products with sub-keys a head / experts",
  "ethos.law_at_end": "8.88 − 0.418 ln x at x = 4 B / 32,768",
  "ethos.codes_cached": "codes of 256 bytes that 50 MiB hold / experts of a layer",
  "ethos.hit_ratio":
    "hit rate of codes / of PEER's experts of 4 KiB, use by Zipf's law with exponent 1, the most used cached",
  "moe.stored": "parameters of the published sizes",
  "moe.active_layers": "parameters a token in the layers alone",
  "moe.active_head": "parameters a token in the layers and the output head",
  "moe.ffn_share": "parameters of 2 experts / of 16",
  "moe.saving_ffn": "1 − FLOP of 2 experts / of 16, in the experts alone",
  "moe.saving_model": "1 − FLOP of a forward pass with 2 experts / with 16",
  "moe.saving_dense": "1 − FLOP of the layer / of the dense layer that the README draws",
  "moe.flops": "FLOP of a forward pass of 128 tokens, causal",
  "moe.flops_formula": "4·L·H·D²·T + 2·L·k·D·F·T at T = 128, the published formula",
  "moe.gain_counted": "FLOP of a forward pass with 16 experts / with 2",
  "moe.gain_formula": "the published formula with k = 16 / with k = 2",
  "moe.gain_parameters": "2 × stored parameters × 128 tokens / 8.05 GFLOP",
  "moe.dense_stored": "parameters with a dense layer of width 2,048, as many FLOP",
  "moe.dense_tied": "the same with a tied head",
  "moe.parameter_ratio": "stored parameters / those of the dense equivalent",
  "moe.hidden_share": "hidden units of 2 experts / of 16",
  "moe.gate_share": "FLOP of the gates / of experts and attention in the layers",
  "moe.samples": "1,000 / 37.42 ms",
  "moe.coverage_updates": "5,000 × 32 stories / 2.12 M",
  "moe.coverage_micro": "5,000 × 4 stories / 2.12 M",
  "moe.epoch_updates": "2.12 M stories / 32",
  "moe.epoch_micro": "2.12 M stories / 4",
  "moe.final_rate": "the schedule at update 625 of 5,000, of its peak",
  "moe.weight_bytes": "parameters × 4 bytes",
} as const;

/** Name of a count. */
export type CountKey = keyof typeof COUNT_MEANINGS;

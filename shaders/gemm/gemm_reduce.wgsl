// C = epilogue(Σ over the splits of p), the second half of a product whose K was cut into ranges: see gemm_tiled.wgsl.
// p: [splits, M, N padded to 4] f32; C, E and the epilogues as in gemm_direct.wgsl. params: m, n, ldc, c_start, splits.
// GROUPED: rows belong to groups, each of whole tiles of TILE rows, as in gemm_tile.wgsl ("rows"); rows of other groups than `first` to `first + groups` are left alone.
// An invocation adds up one vec4, always in the same order. Bound by reading p.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  let columns4 = (params.n + 3u) / 4u;
  let size = params.m * columns4;
  if (i >= size) { return; }
{% if GROUPED %}
  if (of_tile[i / columns4 / TILE] - params.first >= params.groups) { return; }
{% endif %}
  var sum = load_p(i);
  for (var split = 1u; split < params.splits; split++) { sum += load_p(split * size + i); }
  let at = params.c_start + i / columns4 * params.ldc + i % columns4;
  finish(at, i / columns4, i % columns4, sum, beside(at), 0.0);
}

// C = A · Wᵀ for a few rows, each with the weights of its own compressed expert; compressed_weights.wgsl and gemm_epilogue.wgsl come before it.
//
// A [rows, K], C [rows, N]; `of_tile` has the expert of each row, and a number beyond all where it has none. params: m rows, n, k; strides lda, ldc in vec4s;
// experts `first` to `first + groups` are computed.
//
// A workgroup of 256 does OUTPUTS outputs of a row of A. Its invocations share an output's chunks in turns, neighbours take neighbouring outputs, and the sums of
// those that share are added in a fixed tree. Bound by reading the stored weights.

const SHARE = 256u / OUTPUTS;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (params.n + OUTPUTS - 1u) / OUTPUTS;
  let of_a = workgroup_number(id, count) / across;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (of_a >= params.m) { return; }
  let left = workgroup_number(id, count) % across * OUTPUTS;
  let group = of_tile[of_a] - params.first;
  if (group >= params.groups) { return; }
  let a_start = of_a * params.lda;
  let row = min(left + lane % OUTPUTS, params.n - 1u);
  let grid = level_grid(row);
  let quads = (params.k + 3u) / 4u;
  let chunks = (params.k + CHUNK - 1u) / CHUNK;
  var sum = vec4f();
  for (var chunk = lane / OUTPUTS; chunk < chunks; chunk += UNROLL * SHARE) {
{% for u in range(UNROLL) %}
    let chunk{{ u }} = chunk + {{ u }}u * SHARE;
    let taken{{ u }} = take(group, group * params.stride, row, min(chunk{{ u }}, chunks - 1u));
{% for q in range(CHUNK // 4) %}
    let quad{{ u }}_{{ q }} = {{ CHUNK // 4 }}u * chunk{{ u }} + {{ q }}u;
    // Beyond the sum A counts as zero.
    let a{{ u }}_{{ q }} = select(vec4f(), load_a(a_start + min(quad{{ u }}_{{ q }}, quads - 1u)), quad{{ u }}_{{ q }} < quads);
{% endfor %}
{% endfor %}
{% for u in range(UNROLL) %}
    let w{{ u }} = unpack(taken{{ u }}, grid);
{% for q in range(CHUNK // 4) %}
    sum = fma(a{{ u }}_{{ q }}, w{{ u }}.w{{ q }}, sum);
{% endfor %}{% endfor %}
  }
  sums[lane] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
  for (var half = SHARE / 2u; half > 0u; half /= 2u) {
    if (lane < half * OUTPUTS) { sums[lane] += sums[lane + half * OUTPUTS]; }
    workgroupBarrier();
  }
  let column4 = left / 4u + lane;
  if (4u * lane >= OUTPUTS || 4u * column4 >= params.n) { return; }
  let product = vec4f({% for i in range(4) %}sums[4u * lane + {{ i }}u]{{ ", " if i < 3 }}{% endfor %});
  finish(of_a * params.ldc + column4, of_a, column4, product, vec4f(), 0.0);
}

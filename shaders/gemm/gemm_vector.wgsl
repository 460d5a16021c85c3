// C = epilogue(A · op(B)) for an A of one row, as when a model says one token after another; layouts ("nn", "nt"), params and epilogues as in gemm_direct.wgsl.
//
// Every number of B is read once, and nothing is cut into parts that another dispatch would have to add up.
// "nn": a workgroup of 256 does 32 columns: an invocation four of them for the fours of terms s, s + 32, …, where 32 invocations share a column.
// "nt": a workgroup does eight rows of B, 32 invocations each, which take their row in turns. Those are COLUMNS4 vec4s of the result.
// GROUPED "rows" as in gemm_tile.wgsl: several rows, each a tile by itself.
// The sums of those that share are added in a fixed tree. UNROLL fours of terms are asked for before the first is added. Bound by reading B.

const SHARE = 32u;

{% if LAYOUT == "nn" %}
var<workgroup> sums: array<vec4f, 256>;
{% else %}
var<workgroup> sums: array<f32, 256>;
{% endif %}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let columns4 = (params.n + 3u) / 4u;
  // The whole workgroup leaves together, so the barriers below stay uniform.
{% if GROUPED %}
  let across = (columns4 + COLUMNS4 - 1u) / COLUMNS4;
  let of_a = workgroup_number(id, count) / across;
  if (of_a >= params.m) { return; }
  let first4 = workgroup_number(id, count) % across * COLUMNS4;
  let group = of_tile[of_a] - params.first;
  if (group >= params.groups) { return; }
  let a_start = params.a_start + of_a * params.lda;
  let b_start = params.b_start + group * params.stride;
  let c_start = params.c_start + of_a * params.ldc;
{% else %}
  let of_a = 0u;
  let first4 = workgroup_number(id, count) * COLUMNS4;
  if (first4 >= columns4) { return; }
  let a_start = params.a_start;
  let b_start = params.b_start;
  let c_start = params.c_start;
{% endif %}
  let quads = (params.k + 3u) / 4u;
{% if LAYOUT == "nn" %}
  let share = lane / COLUMNS4;
  let column4 = min(first4 + lane % COLUMNS4, columns4 - 1u);
  var sum = vec4f();
  for (var quad = share; quad < quads; quad += UNROLL * SHARE) {
{% for u in range(UNROLL) %}
    let quad{{ u }} = quad + {{ u }}u * SHARE;
    // Beyond the sum A counts as zero, and B repeats its last row.
    let a{{ u }} = select(vec4f(), load_a(a_start + min(quad{{ u }}, quads - 1u)), vec4u(0u, 1u, 2u, 3u) + 4u * quad{{ u }} < vec4u(params.k));
{% for i in range(4) %}
    let b{{ u }}_{{ i }} = load_b(b_start + min(4u * quad{{ u }} + {{ i }}u, params.k - 1u) * params.ldb + column4);
{% endfor %}
{% endfor %}
{% for u in range(UNROLL) %}{% for i in range(4) %}
    sum = fma(vec4f(a{{ u }}[{{ i }}]), b{{ u }}_{{ i }}, sum);
{% endfor %}{% endfor %}
  }
  sums[lane] = sum;
  workgroupBarrier();
{% for half in [16, 8, 4, 2, 1] %}
  if (lane < {{ half }}u * COLUMNS4) { sums[lane] += sums[lane + {{ half }}u * COLUMNS4]; }
  workgroupBarrier();
{% endfor %}
{% else %}
  let share = lane % SHARE;
  let row = min(4u * first4 + lane / SHARE, params.n - 1u);
  var sum = vec4f();
  for (var quad = share; quad < quads; quad += UNROLL * SHARE) {
{% for u in range(UNROLL) %}
    let quad{{ u }} = quad + {{ u }}u * SHARE;
    let inside{{ u }} = vec4u(0u, 1u, 2u, 3u) + 4u * quad{{ u }} < vec4u(params.k);
    let a{{ u }} = select(vec4f(), load_a(a_start + min(quad{{ u }}, quads - 1u)), inside{{ u }});
    let b{{ u }} = select(vec4f(), load_b(b_start + row * params.ldb + min(quad{{ u }}, quads - 1u)), inside{{ u }});
{% endfor %}
{% for u in range(UNROLL) %}
    sum = fma(a{{ u }}, b{{ u }}, sum);
{% endfor %}
  }
  sums[lane] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
{% for half in [16, 8, 4, 2, 1] %}
  if (share < {{ half }}u) { sums[lane] += sums[lane + {{ half }}u]; }
  workgroupBarrier();
{% endfor %}
{% endif %}
  if (lane >= COLUMNS4 || first4 + lane >= columns4) { return; }
{% if LAYOUT == "nn" %}
  let product = sums[lane];
{% else %}
  let product = vec4f({% for i in range(4) %}sums[(4u * lane + {{ i }}u) * SHARE]{{ ", " if i < 3 }}{% endfor %});
{% endif %}
  let at = c_start + first4 + lane;
  finish(at, of_a, first4 + lane, product, beside(at), beside_row(of_a));
}

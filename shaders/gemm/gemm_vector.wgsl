// C = epilogue(A · op(B)) for an A of at most ROWS rows, as when a model says one token of each text after another; layouts ("nn", "nt"), params and epilogues as
// in gemm_direct.wgsl.
//
// Every number of B is read once, for all rows, and nothing is cut into parts that another dispatch would have to add up.
// "nn": a workgroup of 256 does 32 columns: an invocation four of them for the fours of terms s, s + 32, …, where 32 invocations share a column.
// "nt": a workgroup does eight rows of B, 32 invocations each, which take their row in turns. Those are COLUMNS4 vec4s of the result.
// GROUPED "rows" as in gemm_tile.wgsl: several rows, each a tile by itself.
// The sums of those that share are added in a fixed tree, TOGETHER rows at a time. A row's bits do not depend on ROWS. UNROLL fours of terms are asked for before the
// first is added. WHOLE: sums end with a whole four, and one is asked for at a time. Bound by reading B.

const SHARE = 32u;

{% if LAYOUT == "nn" %}
var<workgroup> sums: array<vec4f, {{ 256 * TOGETHER }}>;
{% else %}
var<workgroup> sums: array<f32, {{ 256 * TOGETHER }}>;
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
  let a_start0 = params.a_start + of_a * params.lda;
  let b_start = params.b_start + group * params.stride;
{% else %}
  let of_a = 0u;
  let first4 = workgroup_number(id, count) * COLUMNS4;
  if (first4 >= columns4) { return; }
{% for r in range(ROWS) %}
  let a_start{{ r }} = params.a_start{% if r > 0 %} + min({{ r }}u, params.m - 1u) * params.lda{% endif %};
{% endfor %}
  let b_start = params.b_start;
{% endif %}
  let quads = (params.k + 3u) / 4u;
{% for r in range(ROWS) %}
  var sum{{ r }} = vec4f();
{% endfor %}
{% if LAYOUT == "nn" %}
  let share = lane / COLUMNS4;
  let column4 = min(first4 + lane % COLUMNS4, columns4 - 1u);
{% else %}
  let share = lane % SHARE;
  let column = min(4u * first4 + lane / SHARE, params.n - 1u);
{% endif %}
  for (var quad = share; quad < quads; quad += UNROLL * SHARE) {
{% for u in range(UNROLL) %}
{% if WHOLE %}
{% for r in range(ROWS) %}
    let a{{ u }}_{{ r }} = load_a(a_start{{ r }} + quad);
{% endfor %}
{% else %}
    let quad{{ u }} = quad + {{ u }}u * SHARE;
    // Beyond the sum A counts as zero, and B repeats its last row.
    let inside{{ u }} = vec4u(0u, 1u, 2u, 3u) + 4u * quad{{ u }} < vec4u(params.k);
{% for r in range(ROWS) %}
    let a{{ u }}_{{ r }} = select(vec4f(), load_a(a_start{{ r }} + min(quad{{ u }}, quads - 1u)), inside{{ u }});
{% endfor %}
{% endif %}
{% if LAYOUT == "nn" %}
{% for i in range(4) %}
    let b{{ u }}_{{ i }} = load_b(b_start + {{ "(4u * quad + " ~ i ~ "u)" if WHOLE else "min(4u * quad" ~ u ~ " + " ~ i ~ "u, params.k - 1u)" }} * params.ldb + column4);
{% endfor %}
{% elif WHOLE %}
    let b{{ u }} = load_b(b_start + column * params.ldb + quad);
{% else %}
    let b{{ u }} = select(vec4f(), load_b(b_start + column * params.ldb + min(quad{{ u }}, quads - 1u)), inside{{ u }});
{% endif %}
{% endfor %}
{% for u in range(UNROLL) %}{% for r in range(ROWS) %}
{% if LAYOUT == "nn" %}
{% for i in range(4) %}
    sum{{ r }} = fma(vec4f(a{{ u }}_{{ r }}[{{ i }}]), b{{ u }}_{{ i }}, sum{{ r }});
{% endfor %}
{% else %}
    sum{{ r }} = fma(a{{ u }}_{{ r }}, b{{ u }}, sum{{ r }});
{% endif %}
{% endfor %}{% endfor %}
  }
{% for first in range(0, ROWS, TOGETHER) %}
{% if first > 0 %}
  // The sums of the rows before may still be read.
  workgroupBarrier();
{% endif %}
{% for t in range(TOGETHER) %}
{% set sum = "sum" ~ (first + t) %}
  sums[lane + {{ 256 * t }}u] = {{ sum if LAYOUT == "nn" else "(" ~ sum ~ ".x + " ~ sum ~ ".y) + (" ~ sum ~ ".z + " ~ sum ~ ".w)" }};
{% endfor %}
  workgroupBarrier();
{% for half in [16, 8, 4, 2, 1] %}
{% set step = half ~ "u * COLUMNS4" if LAYOUT == "nn" else half ~ "u" %}
  if ({{ "lane" if LAYOUT == "nn" else "share" }} < {{ step }}) {
{% for t in range(TOGETHER) %}
    sums[lane + {{ 256 * t }}u] += sums[lane + {{ 256 * t }}u + {{ step }}];
{% endfor %}
  }
  workgroupBarrier();
{% endfor %}
  {
    let row = of_a + {{ first }}u + lane / COLUMNS4;
    let vector = first4 + lane % COLUMNS4;
    if (lane < COLUMNS4 * TOGETHER && row < params.m && vector < columns4) {
      let from_sum = lane / COLUMNS4 * 256u + lane % COLUMNS4{% if LAYOUT == "nt" %} * 4u * SHARE{% endif %};
{% if LAYOUT == "nn" %}
      let product = sums[from_sum];
{% else %}
      let product = vec4f({% for i in range(4) %}sums[from_sum + {{ i }}u * SHARE]{{ ", " if i < 3 }}{% endfor %});
{% endif %}
      let at = params.c_start + row * params.ldc + vector;
      finish(at, row, vector, product, beside(at), beside_row(row));
    }
  }
{% endfor %}
}

// C = epilogue(op(A) · op(B)) for processors that play GPU, where an invocation is a lane of a vector register.
//
// LAYOUT "nn": A [M, K], B [K, N]    "nt": A [M, K], B [N, K]    "tn": A [K, M], B [K, N].    C [M, N].
// params, EPILOGUE and padding as in gemm_direct.wgsl.
//
// A subgroup of LANES invocations, a workgroup of its own, computes ROWS × 4·LANES of C in registers, four terms at a time. A lane has four
// columns of C. It loads the numbers of B that only it needs, and a part of A's, which all lanes then read by shuffles. llvmpipe loads lane
// by lane, with a branch for each number, and a shuffle from a lane that is known to the compiler is one instruction: so loads are the
// larger part of the time, and there are ROWS + 16 of them for ROWS·16 products.
//
// A row's sixteen products follow each other, so that a row's sums are in registers meanwhile: there are more rows than registers.

{% set quads = ROWS // 4 %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let across = (params.n + {{ 4 * LANES - 1 }}u) / {{ 4 * LANES }}u;
  let tile = workgroup_number(id, count);
  let row = (tile / across) * ROWS;
  if (row >= params.m) { return; }
  let columns4 = (params.n + 3u) / 4u;
  let own = (tile % across) * LANES + lane;
{% for r in range(ROWS) %}
  var c{{ r }} = vec4f();
{% endfor %}
{% for i in range(ROWS // LANES) %}
{% if LAYOUT == "tn" %}
  // Vector {{ i }} of A: terms of the four, and rows by fours.
  let term{{ i }} = ({{ i * LANES }}u + lane) / {{ quads }}u;
  let a_at{{ i }} = params.a_start + min(row / 4u + ({{ i * LANES }}u + lane) % {{ quads }}u, (params.m - 1u) / 4u);
{% else %}
  let a_at{{ i }} = params.a_start + min(row + {{ i * LANES }}u + lane, params.m - 1u) * params.lda;
{% endif %}
{% endfor %}
{% if LAYOUT == "nt" %}
{% for c in range(4) %}
  let b_at{{ c }} = params.b_start + min(4u * own + {{ c }}u, params.n - 1u) * params.ldb;
{% endfor %}
{% else %}
  let b_at = params.b_start + min(own, columns4 - 1u);
{% endif %}

  for (var k = 0u; k < (params.k + 3u) / 4u; k++) {
{% for i in range(ROWS // LANES) %}
{% if LAYOUT == "tn" %}
    let at{{ i }} = 4u * k + term{{ i }};
    let a{{ i }} = select(vec4f(), load_a(a_at{{ i }} + min(at{{ i }}, params.k - 1u) * params.lda), at{{ i }} < params.k);
{% else %}
    let a{{ i }} = load_a(a_at{{ i }} + k);
{% endif %}
{% endfor %}
{% if LAYOUT == "nt" %}
{% for c in range(4) %}
    let column{{ c }} = load_b(b_at{{ c }} + k);
{% endfor %}
{% for j in range(4) %}
    let b{{ j }} = vec4f(column0[{{ j }}], column1[{{ j }}], column2[{{ j }}], column3[{{ j }}]);
{% endfor %}
{% else %}
{% for j in range(4) %}
    let b{{ j }} = load_b(b_at + min(4u * k + {{ j }}u, params.k - 1u) * params.ldb);
{% endfor %}
{% endif %}
{% for r in range(ROWS) %}
{% for j in range(4) %}
{% if LAYOUT == "tn" %}
{% set from = j * quads + r // 4 %}
{% set part = r % 4 %}
{% else %}
{% set from = r %}
{% set part = j %}
{% endif %}
    c{{ r }} = fma(vec4f(subgroupShuffle(a{{ from // LANES }}[{{ part }}], {{ from % LANES }}u)), b{{ j }}, c{{ r }});
{% endfor %}
{% endfor %}
  }

  if (own >= columns4) { return; }
{% for r in range(ROWS) %}
  if (row + {{ r }}u < params.m) {
    let at = params.c_start + (row + {{ r }}u) * params.ldc + own;
    finish(at, row + {{ r }}u, own, c{{ r }}, beside(at), 0.0);
  }
{% endfor %}
}

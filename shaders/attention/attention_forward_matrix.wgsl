// Causal attention on matrix units; bindings, layouts and result as in attention_forward_direct.wgsl, operands f16 read as bits, whole blocks of rows; tiles as in attention_tiles.wgsl.
//
// A workgroup of four subgroups owns 128 query rows of a head, a subgroup 32 of them: their queries and their part of o are matrices in registers. Keys and values
// come in tiles of 32 rows, the next from memory while one is used. Scores leave the units through workgroup memory, where each invocation
// takes a whole row of 32: the maximum, the exponentials and their sum are its own. The exponentials go back as f16.
//
// o is scaled down only when a row's maximum has risen by more than SLACK since its last scaling, for the accumulators belong to no
// invocation: they go through workgroup memory, too, which is rare after the first tiles. The exponentials stay below exp(SLACK).
// Bound by workgroup memory.

const OWN = 128u;
const LOWEST = -3.0e38f;
const SLACK = 6.0f;
const STRIDE_P = TILE / 4u + 2u;

var<workgroup> tile_k: array<vec4u, TILE * STRIDE_K>;
var<workgroup> tile_v: array<vec4u, TILE * STRIDE_V>;
var<workgroup> scores: array<vec4f, OWN * STRIDE_S>;
var<workgroup> probabilities: array<vec4<f16>, OWN * STRIDE_P>;
// The tile at which a row was last scaled down; all that write it in one round write the same. A vec4, for the units want what lies behind it at a
// multiple of 16 bytes.
var<workgroup> raised: vec4u;

{# Puts 32 columns of o into the strip of scores. #}
{% macro store_o_strip(h) %}
{% for i in range(2) %}{% for c in range(2) %}
      subgroupMatrixStore<row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + {{ 4 * c }}u, o{{ i }}_{{ 2 * h + c }}, STRIDE_S);
{% endfor %}{% endfor %}
      workgroupBarrier();
{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  // Late rows see the most keys: they start first.
  let top = (params.blocks - 1u - work % params.blocks) * OWN;
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  // First of the subgroup's rows in the block; and this invocation's.
  let strip = lane / 32u * 32u;
  let row = top + lane;
  let q_at = ((first + top + strip) * params.heads + head) * QK8;
{% for i in range(2) %}{% for d in range(depth) %}
  let q{{ i }}_{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&q, q_at + {{ i }}u * M * params.heads * QK8 + {{ 2 * d }}u, params.heads * QK8);
{% endfor %}{% endfor %}
{% for i in range(2) %}{% for c in range(wide) %}
  var o{{ i }}_{{ c }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}{% endfor %}
{{ declare_keys() }}
  var highest = LOWEST;
  var sum = 0.0f;
{% if DROPOUT %}
  let start = vec4u(dropout_row(head * params.batch * params.length + first + row));
{% endif %}
{{ fetch_keys("0u") }}
{{ fetch_values("0u") }}
{{ put_keys("tile_k") }}
{{ put_values("tile_v") }}
  let last = top + OWN;
  for (var j = 0u; j < last; j += TILE) {
    workgroupBarrier();
    let ahead = min(j + TILE, last - TILE);
{{ fetch_keys("ahead") }}
{{ fetch_values("ahead") }}
    {
{% for i in range(2) %}{% for c in range(2) %}
      var s{{ i }}_{{ c }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}{% endfor %}
{% for d in range(depth) %}{% for c in range(2) %}
      let k{{ d }}_{{ c }} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&tile_k, {{ c }}u * M * STRIDE_K + {{ 2 * d }}u, STRIDE_K);
{% for i in range(2) %}
      s{{ i }}_{{ c }} = subgroupMatrixMultiplyAccumulate(q{{ i }}_{{ d }}, k{{ d }}_{{ c }}, s{{ i }}_{{ c }});
{% endfor %}
{% endfor %}{% endfor %}
{% for i in range(2) %}{% for c in range(2) %}
      subgroupMatrixStore<row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + {{ 4 * c }}u, s{{ i }}_{{ c }}, STRIDE_S);
{% endfor %}{% endfor %}
    }
    workgroupBarrier();
{% for n in range(8) %}
    var x{{ n }} = scores[lane * STRIDE_S + {{ n }}u] * params.scale;
{% endfor %}
    if (j + TILE > top) {
{% for n in range(8) %}
      x{{ n }} = select(vec4f(LOWEST), x{{ n }}, j + {{ 4 * n }}u + vec4u(0u, 1u, 2u, 3u) <= vec4u(row));
{% endfor %}
    }
    let most4 = max(max(max(x0, x1), max(x2, x3)), max(max(x4, x5), max(x6, x7)));
    let most = max(max(most4.x, most4.y), max(most4.z, most4.w));
    var keep = 1.0f;
    // Key 0 is never masked, so the maximum is a real score from the first tile on.
    if (j == 0u) {
      highest = most;
    } else if (most > highest + SLACK) {
      keep = exp(highest - most);
      highest = most;
      raised = vec4u(j);
    }
    var total = vec4f();
{% for n in range(8) %}
    x{{ n }} = exp(x{{ n }} - highest);
    total += x{{ n }};
    probabilities[lane * STRIDE_P + {{ n }}u] = vec4<f16>(x{{ n }}{{ " * dropout_factors(start, j + " ~ 4 * n ~ "u + vec4u(0u, 1u, 2u, 3u))" if DROPOUT else "" }});
{% endfor %}
    sum = sum * keep + dot(total, vec4f(1.0));
    // A barrier, too: the probabilities are complete.
    if (workgroupUniformLoad(&raised).x == j && j > 0u) {
{% for h in range(wide // 2) %}
{{ store_o_strip(h) }}
{% for n in range(8) %}
      scores[lane * STRIDE_S + {{ n }}u] *= keep;
{% endfor %}
      workgroupBarrier();
{% for i in range(2) %}{% for c in range(2) %}
      o{{ i }}_{{ 2 * h + c }} = subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + {{ 4 * c }}u, STRIDE_S);
{% endfor %}{% endfor %}
      workgroupBarrier();
{% endfor %}
    }
{% for t in range(2) %}
    {
{% for i in range(2) %}
      let p{{ i }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&probabilities, (strip + {{ i }}u * M) * STRIDE_P + {{ 4 * t }}u, STRIDE_P);
{% endfor %}
{% for c in range(wide) %}
      let v{{ c }} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&tile_v, {{ t }}u * M * STRIDE_V + {{ 2 * c }}u, STRIDE_V);
{% for i in range(2) %}
      o{{ i }}_{{ c }} = subgroupMatrixMultiplyAccumulate(p{{ i }}, v{{ c }}, o{{ i }}_{{ c }});
{% endfor %}
{% endfor %}
    }
{% endfor %}
    workgroupBarrier();
{{ put_keys("tile_k") }}
{{ put_values("tile_v") }}
  }
  let o_at = ((first + row) * params.heads + head) * V4;
{% for h in range(wide // 2) %}
{{ store_o_strip(h) }}
{% for n in range(8) %}
  store_o(o_at + {{ 8 * h + n }}u, scores[lane * STRIDE_S + {{ n }}u] / sum);
{% endfor %}
  workgroupBarrier();
{% endfor %}
  log_sum[head * params.batch * params.length + first + row] = highest + log(sum);
}

// Causal attention on matrix units; bindings, layouts and result as in attention_forward_direct.wgsl, operands f16 read as bits, whole blocks of rows; tiles as in attention_tiles.wgsl.
//
// A workgroup of four subgroups owns 128 query rows of a head, a subgroup 32 of them: their queries and their part of o are matrices in registers. Keys and values
// come in tiles of 32 rows, the next from memory while one is used. Scores leave the units through workgroup memory, where each invocation
// takes a whole row of 32: the maximum, the exponentials and their sum are its own. The exponentials go back as f16, into the place of the row's first 16 scores.
//
// A tile takes three meetings: its scores are computed and the tile before has been added to o; its scores are in their place, and so are its values and the next keys; its
// exponentials are. So the keys in workgroup memory are one tile ahead of the values.
//
// o is scaled down only when a row's maximum has risen by more than SLACK since its last scaling, for the accumulators belong to no
// invocation: they go through workgroup memory, too, beside the exponentials, which is rare after the first tiles. The exponentials stay below exp(SLACK).
// Bound by workgroup memory.

const OWN = 128u;
const LOWEST = -3.0e38f;
const SLACK = 6.0f;

var<workgroup> tile_k: array<vec4u, TILE * STRIDE_K>;
var<workgroup> tile_v: array<vec4u, TILE * STRIDE_V>;
// Scores, then exponentials, as bits: what a unit loads need not have the type of what it loads from.
var<workgroup> scores: array<vec4u, OWN * STRIDE_S>;
// The tile at which a row was last scaled down; all that write it in one round write the same. A vec4, for the units want what lies behind it at a
// multiple of 16 bytes.
var<workgroup> raised: vec4u;

fn bits(low: vec4f, high: vec4f) -> vec4u {
  return vec4u(bitcast<vec2u>(vec4<f16>(low)), bitcast<vec2u>(vec4<f16>(high)));
}

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
{{ put_keys("tile_k") }}
{{ fetch_keys("TILE") }}
{{ fetch_values("0u") }}
  workgroupBarrier();
  let last = top + OWN;
  for (var j = 0u; j < last; j += TILE) {
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
      workgroupBarrier();
{% for i in range(2) %}{% for c in range(2) %}
      subgroupMatrixStore<row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + {{ 4 * c }}u, s{{ i }}_{{ c }}, STRIDE_S);
{% endfor %}{% endfor %}
    }
{{ put_keys("tile_k") }}
{{ put_values("tile_v") }}
    // The last tiles load themselves again, which is not used.
    let ahead = min(j + TILE, last - TILE);
    let further = min(j + 2u * TILE, last - TILE);
{{ fetch_keys("further") }}
{{ fetch_values("ahead") }}
    workgroupBarrier();
{% for n in range(8) %}
    var x{{ n }} = bitcast<vec4f>(scores[lane * STRIDE_S + {{ n }}u]) * params.scale;
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
{% if DROPOUT %}
    x{{ n }} *= dropout_factors(start, j + {{ 4 * n }}u + vec4u(0u, 1u, 2u, 3u));
{% endif %}
{% endfor %}
{% for n in range(4) %}
    scores[lane * STRIDE_S + {{ n }}u] = bits(x{{ 2 * n }}, x{{ 2 * n + 1 }});
{% endfor %}
    sum = sum * keep + dot(total, vec4f(1.0));
    // A barrier, too: the probabilities are complete.
    if (workgroupUniformLoad(&raised).x == j && j > 0u) {
{% for c in range(wide) %}
{% for i in range(2) %}
      subgroupMatrixStore<row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + 4u, o{{ i }}_{{ c }}, STRIDE_S);
{% endfor %}
      workgroupBarrier();
{% for n in range(4, 8) %}
      scores[lane * STRIDE_S + {{ n }}u] = bitcast<vec4u>(bitcast<vec4f>(scores[lane * STRIDE_S + {{ n }}u]) * keep);
{% endfor %}
      workgroupBarrier();
{% for i in range(2) %}
      o{{ i }}_{{ c }} = subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + 4u, STRIDE_S);
{% endfor %}
      workgroupBarrier();
{% endfor %}
    }
{% for t in range(2) %}
    {
{% for i in range(2) %}
      let p{{ i }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + {{ 2 * t }}u, STRIDE_S);
{% endfor %}
{% for c in range(wide) %}
      let v{{ c }} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&tile_v, {{ t }}u * M * STRIDE_V + {{ 2 * c }}u, STRIDE_V);
{% for i in range(2) %}
      o{{ i }}_{{ c }} = subgroupMatrixMultiplyAccumulate(p{{ i }}, v{{ c }}, o{{ i }}_{{ c }});
{% endfor %}
{% endfor %}
    }
{% endfor %}
  }
  workgroupBarrier();
  let o_at = ((first + row) * params.heads + head) * V4;
{% for h in range(wide // 2) %}
{% for i in range(2) %}{% for c in range(2) %}
  subgroupMatrixStore<row_major>(&scores, (strip + {{ i }}u * M) * STRIDE_S + {{ 4 * c }}u, o{{ i }}_{{ 2 * h + c }}, STRIDE_S);
{% endfor %}{% endfor %}
  workgroupBarrier();
{% for n in range(8) %}
  store_o(o_at + {{ 8 * h + n }}u, bitcast<vec4f>(scores[lane * STRIDE_S + {{ n }}u]) / sum);
{% endfor %}
  workgroupBarrier();
{% endfor %}
  log_sum[head * params.batch * params.length + first + row] = highest + log(sum);
}

// Gradients of causal attention on matrix units; equations, bindings and layouts as in attention_backward_direct.wgsl, operands f16 read as bits, whole blocks of rows;
// tiles as in attention_tiles.wgsl. For sequences that are too long for their scores to be stored (attention_stored.ts).
//
// A workgroup of four subgroups owns 64 rows of a head, a subgroup 16 of them: queries with the gradient of o (SIDE "query") or keys with their values
// (SIDE "key"), as matrices in registers, and so are their gradients. The other side comes in tiles of 32 rows, the next from memory while one
// is used. Of a tile, both products over a width (scores, and gradients of the probabilities) leave the units through workgroup memory; two invocations
// take a row, 16 numbers each, and give back the probabilities p and the score gradients as f16. Bound by workgroup memory.

// Widths in fours, in which results are written.
const QK4 = NOPE4 + ROPE4;
const KV4 = NOPE4 + V4;
const OWN = 64u;
const STRIDE_P = TILE / 4u + 2u;

// Rows of the other side: queries or keys, and gradients of o or values.
var<workgroup> tile_a: array<vec4u, TILE * STRIDE_K>;
var<workgroup> tile_b: array<vec4u, TILE * STRIDE_V>;
var<workgroup> scores: array<vec4f, OWN * STRIDE_S>;
var<workgroup> products: array<vec4f, OWN * STRIDE_S>;
{% if SIDE == "key" %}
var<workgroup> probabilities: array<vec4<f16>, OWN * STRIDE_P>;
// log_sum and delta of the tile's queries.
var<workgroup> sums: array<vec4f, TILE / 4u>;
var<workgroup> deltas: array<vec4f, TILE / 4u>;
{% endif %}
var<workgroup> score_gradients: array<vec4<f16>, OWN * STRIDE_P>;

{# Starts to load a tile. #}
{% macro fetch(j) %}
{% if SIDE == "key" %}
{% for i in range(depth // 2) %}
  {
    let item = lane + {{ i }}u * LANES;
    next_a{{ i }} = q[((first + {{ j }} + item / QK8) * params.heads + head) * QK8 + item % QK8];
  }
{% endfor %}
{% for i in range(wide // 2) %}
  {
    let item = lane + {{ i }}u * LANES;
    next_b{{ i }} = d_o[((first + {{ j }} + item / V8) * params.heads + head) * V8 + item % V8];
  }
{% endfor %}
  next_sum = log_sum[statistics + {{ j }} + lane % TILE];
  next_delta = delta[statistics + {{ j }} + lane % TILE];
{% else %}
{{ fetch_keys(j) }}
{{ fetch_values(j) }}
{% endif %}
{% endmacro %}
{% macro put() %}
{% if SIDE == "key" %}
{% for i in range(depth // 2) %}
  {
    let item = lane + {{ i }}u * LANES;
    tile_a[item / QK8 * STRIDE_K + item % QK8] = next_a{{ i }};
  }
{% endfor %}
  if (lane < TILE) {
    sums[lane / 4u][lane % 4u] = next_sum;
    deltas[lane / 4u][lane % 4u] = next_delta;
  }
{% for i in range(wide // 2) %}
  {
    let item = lane + {{ i }}u * LANES;
    tile_b[item / V8 * STRIDE_V + item % V8] = next_b{{ i }};
  }
{% endfor %}
{% else %}
{{ put_keys("tile_a") }}
{{ put_values("tile_b") }}
{% endif %}
{% endmacro %}
{# A product of own rows in registers with the tile's rows, into 32 columns of `result`. #}
{% macro meet(own, count, tile, stride, result) %}
    {
{{ multiply_tile(own, count, tile, stride) }}
{{ store_product(result, "STRIDE_S") }}
    }
{% endmacro %}
{# Adds a product over the tile's rows. #}
{% macro gather(sum, count, left, tile, stride) %}
{% for t in range(2) %}
    {
      let l = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&{{ left }}, strip * STRIDE_P + {{ 4 * t }}u, STRIDE_P);
{% for c in range(count) %}
      let r{{ c }} = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&{{ tile }}, {{ t }}u * M * {{ stride }} + {{ 2 * c }}u, {{ stride }});
      {{ sum }}{{ c }} = subgroupMatrixMultiplyAccumulate(l, r{{ c }}, {{ sum }}{{ c }});
{% endfor %}
    }
{% endfor %}
{% endmacro %}
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let work = workgroup_number(id, count);
  // The rows with the most work start first: late queries, early keys.
{% if SIDE == "query" %}
  let top = (params.blocks - 1u - work % params.blocks) * OWN;
  let begin = 0u;
  let end = top + OWN;
{% else %}
  let top = work % params.blocks * OWN;
  let begin = top;
  let end = params.length;
{% endif %}
  let head = work / params.blocks % params.heads;
  let sequence = work / params.blocks / params.heads;
  // The whole workgroup leaves together, so the barriers below stay uniform.
  if (sequence >= params.batch) { return; }
  let first = sequence * params.length;
  let statistics = head * params.batch * params.length + first;
  // First of the subgroup's rows in the block; this invocation's row, and which half of its 32 numbers.
  let strip = lane / 32u * M;
  let place = lane / 2u;
  let part = lane % 2u * 4u;
  let row = top + place;
{% if SIDE == "query" %}
  let q_at = ((first + top + strip) * params.heads + head) * QK8;
  let o_at = ((first + top + strip) * params.heads + head) * V8;
{% for d in range(depth) %}
  let a{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&q, q_at + {{ 2 * d }}u, params.heads * QK8);
  var da{{ d }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}
{% for d in range(wide) %}
  let b{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&d_o, o_at + {{ 2 * d }}u, params.heads * V8);
{% endfor %}
{{ declare_keys() }}
  let own_sum = log_sum[statistics + row];
  let own_delta = delta[statistics + row];
{% if DROPOUT %}
  let start = vec4u(dropout_row(statistics + row));
{% endif %}
{% else %}
  let kv_at = ((first + top + strip) * params.heads + head) * KV8;
{% for d in range(depth) %}
{% if 4 * d < NOPE4 %}
  let a{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&kv, kv_at + {{ 2 * d }}u, params.heads * KV8);
{% else %}
  let a{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&kr, (first + top + strip) * ROPE8 + {{ 2 * d - NOPE4 // 2 }}u, ROPE8);
{% endif %}
  var da{{ d }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}
{% for d in range(wide) %}
  let b{{ d }} = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&kv, kv_at + NOPE8 + {{ 2 * d }}u, params.heads * KV8);
  var db{{ d }} = subgroup_matrix_result<f32, 16, 16>();
{% endfor %}
  var next_sum: f32;
  var next_delta: f32;
{% for i in range(depth // 2) %}
  var next_a{{ i }}: vec4u;
{% endfor %}
{% for i in range(wide // 2) %}
  var next_b{{ i }}: vec4u;
{% endfor %}
{% endif %}
{{ fetch("begin") }}
{{ put() }}
  for (var j = begin; j < end; j += TILE) {
    workgroupBarrier();
    let ahead = min(j + TILE, end - TILE);
{{ fetch("ahead") }}
{{ meet("a", depth, "tile_a", "STRIDE_K", "scores") }}
{{ meet("b", wide, "tile_b", "STRIDE_V", "products") }}
    workgroupBarrier();
{% for n in range(4) %}
    {
      let at = part + {{ n }}u;
      let others = j + 4u * at + vec4u(0u, 1u, 2u, 3u);
{% if DROPOUT %}
      let f = {% if SIDE == "query" %}dropout_factors(start, others){% else %}dropout_factors(dropout_rows(statistics + others), vec4u(row)){% endif %};
{% endif %}
{% if SIDE == "query" %}
      let p = select(vec4f(), exp(scores[place * STRIDE_S + at] * params.scale - own_sum), others <= vec4u(row));
      score_gradients[place * STRIDE_P + at] = vec4<f16>(p * ({{ "f * " if DROPOUT else "" }}products[place * STRIDE_S + at] - own_delta) * params.scale);
{% else %}
      let p = select(vec4f(), exp(scores[place * STRIDE_S + at] * params.scale - sums[at]), others >= vec4u(row));
      probabilities[place * STRIDE_P + at] = vec4<f16>(p{{ " * f" if DROPOUT else "" }});
      score_gradients[place * STRIDE_P + at] = vec4<f16>(p * ({{ "f * " if DROPOUT else "" }}products[place * STRIDE_S + at] - deltas[at]) * params.scale);
{% endif %}
    }
{% endfor %}
    workgroupBarrier();
{% if SIDE == "key" %}
{{ gather("db", wide, "probabilities", "tile_b", "STRIDE_V") }}
{% endif %}
{{ gather("da", depth, "score_gradients", "tile_a", "STRIDE_K") }}
    workgroupBarrier();
{{ put() }}
  }

  let to = (first + row) * params.heads + head;
{% for h in range(depth // 2) %}
{% for c in range(2) %}
  subgroupMatrixStore<row_major>(&scores, strip * STRIDE_S + {{ 4 * c }}u, da{{ 2 * h + c }}, STRIDE_S);
{% endfor %}
  workgroupBarrier();
{% for n in range(4) %}
  {
    let v = scores[place * STRIDE_S + part + {{ n }}u];
    let d = {{ 8 * h + n }}u + part;
{% if SIDE == "query" %}
    store_d_q(to * QK4 + d, v);
{% else %}
    if (d < NOPE4) { store_d_kv(to * KV4 + d, v); }
{% if ROPE4 > 0 %}
    else { store_d_kr(to * ROPE4 + d - NOPE4, v); }
{% endif %}
{% endif %}
  }
{% endfor %}
  workgroupBarrier();
{% endfor %}
{% if SIDE == "key" %}
{% for h in range(wide // 2) %}
{% for c in range(2) %}
  subgroupMatrixStore<row_major>(&scores, strip * STRIDE_S + {{ 4 * c }}u, db{{ 2 * h + c }}, STRIDE_S);
{% endfor %}
  workgroupBarrier();
{% for n in range(4) %}
  store_d_kv(to * KV4 + NOPE4 + {{ 8 * h + n }}u + part, scores[place * STRIDE_S + part + {{ n }}u]);
{% endfor %}
  workgroupBarrier();
{% endfor %}
{% endif %}
}

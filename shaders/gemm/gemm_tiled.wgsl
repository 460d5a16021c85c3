// C = epilogue(op(A) · op(B)) through tiles in workgroup memory, as in gemm_steps.wgsl; layouts, params and epilogues as in gemm_direct.wgsl.
//
// Bound by arithmetic, two thirds of its peak; by the number of tiles for small matrices. Operands that are stored the other way cost 8 to 20 %: large ones are
// transposed first (transpose.wgsl).
//
// SPLIT: K is cut into `splits` ranges of `range` (a multiple of 2·STEP), each with workgroups of its own, which write p [splits, M, N padded to 4];
// gemm_reduce.wgsl adds them up in order. For few tiles with long sums, such as the gradients of weights. PAIRED as in gemm_tile.wgsl.
//
// COMPRESSED: B are experts' compressed weights (compressed_weights.wgsl comes before), unpacked on their way into workgroup memory: an invocation takes CHUNK inputs
// of an output a step, neighbours take neighbouring outputs.
//
// FACTORS: A counts times `factors` [pairs, tiles of FACTORS terms, vec4s of M padded as A is], the same number for each of these terms (only with K-major A).

{% macro fetch(base) %}
{% if FACTORS %}
  if ({{ base }} % FACTORS == 0u) {
{% for p in range(load_a // 4) %}
    factor{{ p }} = load_factors(factors_at + {{ base }} / FACTORS * params.factors_stride + {{ p }}u);
{% endfor %}
  }
{% endif %}
  if ({{ base }} + STEP <= params.k) {
{{ fetch_operand("a", "a", base, false) }}
{% if not COMPRESSED %}
{{ fetch_operand("b", "b", base, false) }}
{% endif %}
  } else {
{{ fetch_operand("a", "a", base, true) }}
{% if not COMPRESSED %}
{{ fetch_operand("b", "b", base, true) }}
{% endif %}
  }
{% if COMPRESSED %}
  // Beyond the sum A counts as zero, so any weights will do.
  next_b = take(group, b_start, own_output, min({{ base }} / CHUNK + own_chunk, (params.k - 1u) / CHUNK));
{% endif %}
{% endmacro %}
{% macro put(buffer) %}
{{ put_operand("a", "a", buffer, "factor" if FACTORS) }}
{% if COMPRESSED %}
  {
    let unpacked = unpack(next_b, own_grid);
{% for j in range(CHUNK) %}
    tile_b[{{ buffer }}][own_chunk * CHUNK + {{ j }}u][lane % TILE_N / 4u][lane % 4u] = unpacked.w{{ j // 4 }}.{{ "xyzw"[j % 4] }};
{% endfor %}
  }
{% else %}
{{ put_operand("b", "b", buffer) }}
{% endif %}
{% endmacro %}
@compute @workgroup_size({{ invocations }})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
{{ own_tile("top", "left") }}
{{ own_fragment() }}
{{ declare_operand("a", "a") }}
{{ aim_operand("a", "a", "a_start", "top") }}
{% if COMPRESSED %}
  let own_output = min(left + lane % TILE_N, params.n - 1u);
  let own_chunk = lane / TILE_N;
  let own_grid = level_grid(own_output);
  var next_b: Stored;
{% else %}
{{ declare_operand("b", "b") }}
{{ aim_operand("b", "b", "b_start", "left") }}
{% endif %}
{% if FACTORS %}
  // All loads of an invocation are of the same columns.
  let factors_at = pair * params.factors_pair + min(top / {{ load_a }}u + lane % {{ TILE_M // load_a }}u, (params.m - 1u) / {{ load_a }}u) * {{ load_a // 4 }}u;
{% for p in range(load_a // 4) %}
  var factor{{ p }} = vec4f();
{% endfor %}
{% endif %}
{{ fetch("begin") }}
{{ put("0") }}
  workgroupBarrier();
  for (var base = begin; base < end; base += 2u * STEP) {
{{ fetch("(base + STEP)") }}
{{ multiply("0") }}
{{ put("1") }}
    workgroupBarrier();
    if (base + 2u * STEP < end) {
{{ fetch("(base + 2u * STEP)") }}
    }
{{ multiply("1") }}
{{ put("0") }}
    workgroupBarrier();
  }

  let columns4 = (params.n + 3u) / 4u;
{% for i in range(quads_m) %}
  // Four rows at a time: what the epilogue reads, then what is stored.
  {
    let row0 = top + 4u * y + {{ i }}u * 4u * DOWN;
{% if not SPLIT %}
{% for r in range(4) %}
    let of_row{{ r }} = beside_row(min(row0 + {{ r }}u, params.m - 1u));
{% for c in range(quads_n) %}
    let at{{ r }}_{{ c }} = c_start + (row0 + {{ r }}u) * params.ldc + left / 4u + x + {{ c }}u * ACROSS;
    let other{{ r }}_{{ c }} = beside(at{{ r }}_{{ c }});
{% endfor %}
{% endfor %}
{% endif %}
{% for r in range(4) %}
    if (row0 + {{ r }}u < params.m) {
{% for c in range(quads_n) %}
      let column{{ c }} = left / 4u + x + {{ c }}u * ACROSS;
{% if SPLIT %}
      if (column{{ c }} < columns4) { store_p((split * params.m + row0 + {{ r }}u) * columns4 + column{{ c }}, c{{ 4 * i + r }}_{{ c }}); }
{% else %}
      if (column{{ c }} < columns4) { finish(at{{ r }}_{{ c }}, row0 + {{ r }}u, column{{ c }}, c{{ 4 * i + r }}_{{ c }}, other{{ r }}_{{ c }}, of_row{{ r }}); }
{% endif %}
{% endfor %}
    }
{% endfor %}
  }
{% endfor %}
}

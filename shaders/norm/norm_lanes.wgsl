// Rows by the lanes of a vector register, for processors that play GPU. Put before the kernels that use it.
//
// A subgroup of LANES invocations, a workgroup of its own, goes through params.block_rows rows, one after the other. A lane has VECTORS vec4s of a row, LANES apart, so
// what belongs to the columns is loaded once for all rows. FULL: there are columns for all lanes; otherwise lanes beyond the last column load that and count as zero.

fn lanes_sum(lane: u32, value: f32) -> f32 {
  var sum = value;
{% for i in range(4) %}
{% if 2 ** i < LANES %}
  sum += subgroupShuffle(sum, lane ^ {{ 2 ** i }}u);
{% endif %}
{% endfor %}
  return sum;
}

{% macro columns() %}
{% for v in range(VECTORS) %}
{% if FULL %}
  let column{{ v }} = lane + {{ v * LANES }}u;
{% else %}
  let inside{{ v }} = lane + {{ v * LANES }}u < params.columns4;
  let column{{ v }} = min(lane + {{ v * LANES }}u, params.columns4 - 1u);
{% endif %}
{% endfor %}
{% endmacro %}
{% macro own(v, value) %}{{ value if FULL else "select(vec4f(), " ~ value ~ ", inside" ~ v ~ ")" }}{% endmacro %}
{% macro if_own(v) %}{{ "" if FULL else "if (inside" ~ v ~ ")" }}{% endmacro %}

// The router's choice as routing_select.wgsl makes it, for software adapters and few kept experts: the lists of the best are registers.
//
// s1, s2 f32 [rows, stride] in vec4s; index, score, params and order as there. An invocation does a row. A value goes into a sorted list without a branch: places that it
// precedes move down by one. Bound by these comparisons.

// NaN and minus infinity count as this, so that whatever happens the experts that come out exist.
const LOWEST = -3.4028234e38;

fn finite(s: f32) -> f32 { return select(LOWEST, s, s > LOWEST); }

fn precedes(value: f32, key: u32, other: f32, other_key: u32) -> bool {
  return value > other || (value == other && key < other_key);
}

{% macro list(name) %}
{% for i in range(TOP) %}
  // Whatever exists comes before it.
  var {{ name }}{{ i }} = LOWEST;
  var {{ name }}_key{{ i }} = 0xffffffffu;
{% endfor %}
{% endmacro %}
{% macro insert(name, value, key, exists) %}
  {
{% for i in range(TOP) %}
    let before{{ i }} = {{ exists }} && precedes({{ value }}, {{ key }}, {{ name }}{{ i }}, {{ name }}_key{{ i }});
{% endfor %}
{% for i in range(TOP - 1, 0, -1) %}
    {{ name }}{{ i }} = select(select({{ name }}{{ i }}, {{ value }}, before{{ i }}), {{ name }}{{ i - 1 }}, before{{ i - 1 }});
    {{ name }}_key{{ i }} = select(select({{ name }}_key{{ i }}, {{ key }}, before{{ i }}), {{ name }}_key{{ i - 1 }}, before{{ i - 1 }});
{% endfor %}
    {{ name }}0 = select({{ name }}0, {{ value }}, before0);
    {{ name }}_key0 = select({{ name }}_key0, {{ key }}, before0);
  }
{% endmacro %}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * 32u + lane;
  if (row >= params.rows) { return; }
{{ list("a") }}
{{ list("b") }}
{{ list("sum") }}
  for (var c = 0u; c < (params.keys + 3u) / 4u; c++) {
    let a = load_s1(row * params.stride + c);
    let b = load_s2(row * params.stride + c);
{% for i in range(4) %}
    {
      let key = 4u * c + {{ i }}u;
      let exists = key < params.keys;
      let a_here = finite(a[{{ i }}]);
      let b_here = finite(b[{{ i }}]);
{{ insert("a", "a_here", "key", "exists") }}
{{ insert("b", "b_here", "key", "exists") }}
    }
{% endfor %}
  }
{% for i in range(TOP) %}
{% for j in range(TOP // (i + 1)) %}
  {
    let value = max(a{{ i }} + b{{ j }}, LOWEST);
    let expert = a_key{{ i }} * params.keys + b_key{{ j }};
{{ insert("sum", "value", "expert", "true") }}
  }
{% endfor %}
{% endfor %}
{% for j in range(TOP) %}
  let weight{{ j }} = exp(sum{{ j }} - sum0);
{% endfor %}
  let total = {% for j in range(TOP) %}{{ " + " if j > 0 }}weight{{ j }}{% endfor %};
  let at = (params.first_row + row) * TOP;
{% for j in range(TOP) %}
  index[at + {{ j }}u] = sum_key{{ j }};
  score[at + {{ j }}u] = weight{{ j }} / total;
{% endfor %}
}

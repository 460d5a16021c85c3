// Sums of sorted segments: out[s] = Σ over positions i in [begin[s], begin[s + 1]) of entry(order[i], s), for s = first … first + count − 1.
//
// The operation defines an entry: ENTRY is WGSL that defines entry(at, segment, column4) -> vec4f.
// order, keys u32 [n] sorted; begin u32 [·]; partial f32 [chunks, width]; out [count, width] (stride ldo, offset o_start); params in vec4s.
//
// Segments are used unevenly, so the sorted list is cut into chunks of params.chunk positions. STAGE "partial" sums every chunk that lies wholly in one
// segment; STAGE "final" sums, for each segment, the entries before its first whole chunk, its whole chunks, and the entries after
// them. The order is fixed, and no invocation adds more than 2 · chunk entries one by one. WHOLE: there are no chunks, and STAGE "final" alone.
// An invocation does COLUMNS · 4 columns of a chunk or of a segment, params.group vec4s apart, so that what all columns of an entry share is read once for them, and asks for
// UNROLL entries before it adds the first. Bound by gathering the entries.

{{ ENTRY }}

{% macro add(source, unroll) %}
{% for u in range(unroll) %}
      let at{{ u }} = {{ source }}[at + {{ u }}u];
{% for k in range(COLUMNS) %}
      let entry{{ u }}_{{ k }} = entry(at{{ u }}, segment, column{{ k }});
{% endfor %}
{% endfor %}
{% for k in range(COLUMNS) %}
{% for u in range(unroll) %}
      sum{{ k }} += entry{{ u }}_{{ k }};
{% endfor %}
{% endfor %}
{% endmacro %}

{% macro add_all(end) %}
{% if UNROLL > 1 %}
    for (; at + UNROLL <= {{ end }}; at += UNROLL) {
{{ add("order", UNROLL) }}
    }
{% endif %}
    for (; at < {{ end }}; at++) {
{{ add("order", 1) }}
    }
{% endmacro %}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
{% for k in range(COLUMNS) %}
  // Columns beyond the last are the last once more, and are not written.
  let place{{ k }} = i % params.group + {{ k }}u * params.group;
  let column{{ k }} = min(place{{ k }}, params.width - 1u);
  var sum{{ k }} = vec4f();
{% endfor %}
{% if STAGE == "partial" %}
  let chunk = i / params.group;
  if ((chunk + 1u) * params.chunk > params.n) { return; }
  let start = chunk * params.chunk;
  let end = start + params.chunk;
  let segment = keys[start];
  if (segment != keys[end - 1u] || segment < params.first || segment - params.first >= params.count) { return; }
  var at = start;
{{ add_all("end") }}
{% for k in range(COLUMNS) %}
  if (place{{ k }} < params.width) { store_partial(chunk * params.width + column{{ k }}, sum{{ k }}); }
{% endfor %}
{% else %}
  let s = i / params.group;
  if (s >= params.count) { return; }
  let segment = params.first + s;
  let end = begin[segment + 1u];
  var at = begin[segment];
  let to = params.o_start + s * params.ldo;
{% if ACCUMULATE %}
  if (at == end) { return; }
{% for k in range(COLUMNS) %}
  sum{{ k }} = load_out(to + column{{ k }});
{% endfor %}
{% endif %}
{% if not WHOLE %}
  let whole = (at + params.chunk - 1u) / params.chunk;
  let head = min(end, whole * params.chunk);
{{ add_all("head") }}
  for (var chunk = whole; (chunk + 1u) * params.chunk <= end; chunk++) {
{% for k in range(COLUMNS) %}
    sum{{ k }} += load_partial(chunk * params.width + column{{ k }});
{% endfor %}
    at += params.chunk;
  }
{% endif %}
{{ add_all("end") }}
{% for k in range(COLUMNS) %}
  if (place{{ k }} < params.width) { store_out(to + column{{ k }}, sum{{ k }}); }
{% endfor %}
{% endif %}
}

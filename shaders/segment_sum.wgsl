// Sums of sorted segments: out[s] = Σ over positions i in [begin[s], begin[s + 1]) of entry(order[i], s), for s = first … first + count − 1.
//
// What an entry is, the operation says: ENTRY is WGSL that defines entry(at, segment, column4) -> vec4f.
// order, keys u32 [n] sorted; begin u32 [·]; partial f32 [chunks, width]; out [count, width] (stride ldo, offset o_start); params in vec4s.
//
// Segments are used unevenly, so the sorted list is cut into chunks of params.chunk positions. STAGE "partial" sums every chunk that lies wholly in one
// segment; STAGE "final" sums, for each segment, the entries before its first whole chunk, its whole chunks, and the entries after
// them. The order is fixed, and no invocation adds more than 2 · chunk entries one by one.
// An invocation does four columns of a chunk or of a segment. Bound by gathering the entries.

{{ ENTRY }}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  let column = i % params.width;
{% if STAGE == "partial" %}
  let chunk = i / params.width;
  if ((chunk + 1u) * params.chunk > params.n) { return; }
  let start = chunk * params.chunk;
  let end = start + params.chunk;
  let segment = keys[start];
  if (segment != keys[end - 1u] || segment < params.first || segment - params.first >= params.count) { return; }
  var sum = vec4f();
  for (var at = start; at < end; at++) { sum += entry(order[at], segment, column); }
  store_partial(i, sum);
{% else %}
  let s = i / params.width;
  if (s >= params.count) { return; }
  let segment = params.first + s;
  let end = begin[segment + 1u];
  var at = begin[segment];
  let whole = (at + params.chunk - 1u) / params.chunk;
  let head = min(end, whole * params.chunk);
  let to = params.o_start + s * params.ldo + column;
  var sum = vec4f();
  if (params.accumulate == 1u) { sum = load_out(to); }
  for (; at < head; at++) { sum += entry(order[at], segment, column); }
  for (var chunk = whole; (chunk + 1u) * params.chunk <= end; chunk++) {
    sum += load_partial(chunk * params.width + column);
    at += params.chunk;
  }
  for (; at < end; at++) { sum += entry(order[at], segment, column); }
  store_out(to, sum);
{% endif %}
}

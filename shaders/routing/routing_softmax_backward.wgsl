// Backward of the softmax over a row's kept sums: dtotal_j = score_j · (dscore_j − Σ_i score_i dscore_i).
//
// DROPPED: an expert with score 0 was not kept, and its dscore may be anything.
// score, dscore, dtotal f32 [rows, TOP], as vec4s where rows are whole ones. An invocation does a row. Bound by memory.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  var mean = 0.0;
{% if TOP % 4 %}
  for (var j = row * TOP; j < (row + 1u) * TOP; j++) { mean += score[j] * {{ "select(dscore[j], 0.0, score[j] == 0.0)" if DROPPED else "dscore[j]" }}; }
  for (var j = row * TOP; j < (row + 1u) * TOP; j++) { dtotal[j] = score[j] * ({{ "select(dscore[j], 0.0, score[j] == 0.0)" if DROPPED else "dscore[j]" }} - mean); }
{% else %}
{% for j in range(TOP // 4) %}
  let score{{ j }} = load_score(row * {{ TOP // 4 }}u + {{ j }}u);
  let dscore{{ j }} = {% if DROPPED %}select(load_dscore(row * {{ TOP // 4 }}u + {{ j }}u), vec4f(), score{{ j }} == vec4f()){% else %}load_dscore(row * {{ TOP // 4 }}u + {{ j }}u){% endif %};
{% endfor %}
{% for j in range(TOP) %}
  mean += score{{ j // 4 }}[{{ j % 4 }}] * dscore{{ j // 4 }}[{{ j % 4 }}];
{% endfor %}
{% for j in range(TOP // 4) %}
  store_dtotal(row * {{ TOP // 4 }}u + {{ j }}u, score{{ j }} * (dscore{{ j }} - mean));
{% endfor %}
{% endif %}
}

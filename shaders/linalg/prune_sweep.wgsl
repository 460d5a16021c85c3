// The columns of a block one after the other, as SparseGPT prunes them: q = w or 0, rounded to its grid, e = (w − q) / U[i, i], and the block's later columns
// lose e · U[i, j].
//
// w: [rows, stride] f32, of which the block's columns are replaced by q; u: [.., stride] f32; error: [rows, pitch], −e of the block; codes: [rows, stride] u32,
// the level above the lowest, with the highest bit set where a weight was pruned; losses: [⌈rows / 4⌉], which get ½ Σ e² of four rows.
// MASK "selected": keys [rows, columns] u32 and state say which come before the chosen one (prune_pick.wgsl); "pattern": of every params.group columns the
// params.zeros with the smallest (w / U[i, i])², as the columns before have left them, the lower column first among equals.
// With BITS grid: [rows, 2], step and zero point, and levels from params.lowest to params.highest.
// params: rows, columns (of the block), start, stride, pitch (numbers).
//
// A workgroup does four rows, a vec4 of each column; an invocation has CELLS columns of the block, LANES apart. The owner of a column tells its error to all in one
// of two places, in turns, so that one barrier a column is enough. Bound by latency: rows are many, and columns wait for each other.

{% set PRUNED = "0x80000000u" %}
var<workgroup> errors: array<vec4f, 2>;
{% if MASK == "pattern" %}
var<workgroup> saliencies: array<vec4f, {{ LANES * CELLS }}>;
{% endif %}
var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let number = workgroup_number(id, count);
  let first = 4u * number;
  if (first >= params.rows) { return; }
  let rows = vec4u(first, first + 1u, first + 2u, first + 3u);
  let inside = rows < vec4u(params.rows);
  let row = min(rows, vec4u(params.rows - 1u));
{% if BITS %}
  let scale = vec4f(grid[2u * row.x], grid[2u * row.y], grid[2u * row.z], grid[2u * row.w]);
  let zero = vec4f(grid[2u * row.x + 1u], grid[2u * row.y + 1u], grid[2u * row.z + 1u], grid[2u * row.w + 1u]);
{% endif %}
{% for c in range(CELLS) %}
  let column{{ c }} = lane + {{ c }}u * LANES;
  let own{{ c }} = column{{ c }} < params.columns;
  let at{{ c }} = row * params.stride + params.start + min(column{{ c }}, params.columns - 1u);
  var w{{ c }} = select(vec4f(), vec4f(w[at{{ c }}.x], w[at{{ c }}.y], w[at{{ c }}.z], w[at{{ c }}.w]), inside & vec4<bool>(own{{ c }}));
  let d{{ c }} = u[(params.start + min(column{{ c }}, params.columns - 1u)) * (params.stride + 1u)];
  var e{{ c }} = vec4f();
  var code{{ c }} = vec4u();
{% if MASK == "selected" %}
  let entry{{ c }} = row * params.columns + min(column{{ c }}, params.columns - 1u);
  let key{{ c }} = vec4u(keys[entry{{ c }}.x], keys[entry{{ c }}.y], keys[entry{{ c }}.z], keys[entry{{ c }}.w]);
  let pruned{{ c }} = (key{{ c }} < vec4u(state[0])) | ((key{{ c }} == vec4u(state[0])) & (entry{{ c }} < vec4u(state[1])));
{% else %}
  var pruned{{ c }} = vec4<bool>();
{% endif %}
{% endfor %}
{% for c in range(CELLS) %}
  for (var i = {{ c }}u * LANES; i < min({{ c + 1 }}u * LANES, params.columns); i++) {
{% if MASK == "pattern" %}
    if (i % params.group == 0u) {
      let last = i + params.group;
{% for k in range(CELLS) %}
      let r{{ k }} = w{{ k }} / d{{ k }};
      let s{{ k }} = r{{ k }} * r{{ k }};
      if (column{{ k }} >= i && column{{ k }} < last) { saliencies[column{{ k }}] = s{{ k }}; }
{% endfor %}
      workgroupBarrier();
{% for k in range(CELLS) %}
      if (column{{ k }} >= i && column{{ k }} < last) {
        let mine = saliencies[column{{ k }}];
        var rank = vec4u();
        for (var j = i; j < last; j++) {
          let other = saliencies[j];
          let before = (other < mine) | ((other == mine) & vec4<bool>(j < column{{ k }}));
          rank += select(vec4u(), vec4u(1u), before);
        }
        pruned{{ k }} = rank < vec4u(params.zeros);
      }
{% endfor %}
    }
{% endif %}
    if (column{{ c }} == i) {
      var q = select(w{{ c }}, vec4f(), pruned{{ c }});
{% if BITS %}
      let level = clamp(round(q / scale) + zero, vec4f(params.lowest), vec4f(params.highest));
      q = scale * (level - zero);
      code{{ c }} = vec4u(level - params.lowest);
{% endif %}
      e{{ c }} = (w{{ c }} - q) / d{{ c }};
      w{{ c }} = q;
      code{{ c }} |= select(vec4u(), vec4u({{ PRUNED }}), pruned{{ c }});
      errors[i & 1u] = e{{ c }};
    }
    workgroupBarrier();
    let e = errors[i & 1u];
    let from_ = (params.start + i) * params.stride + params.start;
{% for k in range(c, CELLS) %}
    if (own{{ k }} && column{{ k }} > i) { w{{ k }} = fma(-e, vec4f(u[from_ + column{{ k }}]), w{{ k }}); }
{% endfor %}
  }
{% endfor %}
  var loss = 0.0;
{% for c in range(CELLS) %}
  if (own{{ c }}) {
    loss += 0.5 * dot(e{{ c }}, e{{ c }});
{% for k in ["x", "y", "z", "w"] %}
    if (inside.{{ k }}) {
      w[at{{ c }}.{{ k }}] = w{{ c }}.{{ k }};
      error[row.{{ k }} * params.pitch + column{{ c }}] = -e{{ c }}.{{ k }};
      codes[at{{ c }}.{{ k }}] = code{{ c }}.{{ k }};
    }
{% endfor %}
  }
{% endfor %}
  sums[lane] = loss;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { sums[lane] += sums[lane + width]; }
    workgroupBarrier();
  }
  if (lane == 0u) { losses[number] += sums[0]; }
}

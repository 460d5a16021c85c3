// An assignment's term of the gradient of its expert's h: a · dacc_t + dp · xp_t; context-aware, of the gradient of the codes' part of
// gelu's argument, so times gelu'(P_i + c_t). Part of segment_sum.wgsl.
// entries f32 [T · per, 4] (a, dp, ds, p); g [T, ·] (stride ldg); x [T, ·] (stride ldx), c at offset c_start in its rows; preactivation [count, width].

{% if CONTEXT %}
{{ GELU }}
{% endif %}

fn entry(at: u32, segment: u32, column: u32) -> vec4f {
  let e = load_entries(at);
  let token = at / params.per;
  let dh = e.x * load_g(token * params.ldg + column) + e.y * load_x(token * params.ldx + column);
{% if CONTEXT %}
  let c = load_x(token * params.ldx + params.c_start + column);
  return dh * gelu_derivative(load_preactivation((segment - params.first) * params.width + column) + c);
{% else %}
  return dh;
{% endif %}
}

// What happens to a vec4 of a product before it is stored. Shared by the GEMM kernels; params as there.
{% if EPILOGUE == "gelu" or EPILOGUE == "gelu_backward" %}
{{ GELU }}
{% endif %}

fn finish(row: u32, column4: u32, product: vec4f) {
  let at = params.c_start + row * params.ldc + column4;
  var v = product;
{% if LAYOUT == "nt" %}
  // Only here can a column beyond n be reached: elsewhere B's own padding is zero.
  v = select(vec4f(), v, vec4u(0u, 1u, 2u, 3u) + 4u * column4 < vec4u(params.n));
{% endif %}
{% if EPILOGUE == "add" %}
  v += load_e(at);
{% elif EPILOGUE == "accumulate" %}
  v += load_c(at);
{% elif EPILOGUE == "gelu" %}
  v = gelu(v);
{% elif EPILOGUE == "gelu_backward" %}
  v = load_c(at) * gelu_derivative(v);
{% endif %}
  store_c(at, v);
}

// What happens to a vec4 of a product before it is stored at entry `at` of C. Shared by the GEMM kernels; params as there.
//
// Attention's backward pass has two of its own, for rows of queries and columns of keys (model/ops/attention_products.ts): "shares" gives
// C = exp(scale·P − log_sum), zero for later keys, and "slopes" C = scale·E ∘ (P − delta), where E are the shares.
{% if EPILOGUE == "gelu" or EPILOGUE == "gelu_backward" %}
{{ GELU }}
{% endif %}

fn finish(at: u32, row: u32, column4: u32, product: vec4f) {
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
{% elif EPILOGUE == "shares" %}
  v = select(vec4f(), exp(v * params.scale - log_sum[statistics + row]), vec4u(0u, 1u, 2u, 3u) + 4u * column4 <= vec4u(row));
{% elif EPILOGUE == "slopes" %}
  v = params.scale * load_e(at) * (v - delta[statistics + row]);
{% endif %}
  store_c(at, v);
}

// The operation on a vec4 of a product before it is stored at entry `at` of C. Shared by the GEMM kernels; params as there.
//
// Its operands are loaded apart, `beside` for a vec4 and `beside_row` for a row: kernels load them for several results before they store the first one, since
// no load overtakes a store.
//
// Attention's backward pass has two epilogues of its own, for rows of queries and columns of keys (model/ops/attention/attention_stored.ts): "probabilities" gives
// C = exp(scale·P − log_sum), zero for later keys, and "score_gradients" C = scale·E ∘ (P − delta), where E are the probabilities. With DROPOUT, and factors F as in
// attention_forward_direct.wgsl, the second gives C = scale·E ∘ (F ∘ P − delta) and then E = F ∘ E.
{% if EPILOGUE == "gelu" or EPILOGUE == "gelu_backward" %}
{{ GELU }}
{% endif %}

fn beside(at: u32) -> vec4f {
{% if EPILOGUE == "add" or EPILOGUE == "score_gradients" %}
  return load_e(at);
{% elif EPILOGUE == "accumulate" or EPILOGUE == "gelu_backward" %}
  return load_c(at);
{% else %}
  return vec4f();
{% endif %}
}

fn beside_row(row: u32) -> f32 {
{% if EPILOGUE == "probabilities" %}
  return log_sum[statistics + row];
{% elif EPILOGUE == "score_gradients" %}
  return delta[statistics + row];
{% else %}
  return 0.0;
{% endif %}
}

fn finish(at: u32, row: u32, column4: u32, product: vec4f, other: vec4f, of_row: f32) {
  var v = product;
{% if LAYOUT == "nt" or COMPRESSED %}
  // Only here can a column beyond n be reached: elsewhere B's own padding is zero.
  v = select(vec4f(), v, vec4u(0u, 1u, 2u, 3u) + 4u * column4 < vec4u(params.n));
{% endif %}
{% if EPILOGUE == "add" or EPILOGUE == "accumulate" %}
  v += other;
{% elif EPILOGUE == "gelu" %}
  v = gelu(v);
{% elif EPILOGUE == "gelu_backward" %}
  v = other * gelu_derivative(v);
{% elif EPILOGUE == "probabilities" %}
  v = select(vec4f(), exp(v * params.scale - of_row), vec4u(0u, 1u, 2u, 3u) + 4u * column4 <= vec4u(row));
{% elif EPILOGUE == "score_gradients" %}
{% if DROPOUT %}
  let f = dropout_factors(vec4u(dropout_row(statistics + row)), 4u * column4 + vec4u(0u, 1u, 2u, 3u));
  store_e(at, f * other);
  v *= f;
{% endif %}
  v = params.scale * other * (v - of_row);
{% endif %}
  store_c(at, v);
}

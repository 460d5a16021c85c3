// value[i] = factor · (Σ of 16 uniform 16-bit integers − mean) / their deviation: nearly normal (Irwin–Hall, kurtosis 2.93), and, being integer
// arithmetic up to the last multiplication, the same bits on every adapter and in model/ops/optimizer/initialize.ts.
// The integers are the halves of two PCG-4D hashes of (element, stream, seed, 0 or 1). value: flat, as vec4s.
// UNIFORM: value[i] = factor · (an odd whole number within ±2²⁴), from the first word of one hash.
// params: count (elements), first (number of element 0), stream, seed, factor (deviation or bound, already divided). An invocation makes one vec4.
fn pcg4d(seed: vec4u) -> vec4u {
  var v = seed * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}

{% if UNIFORM %}
fn number(element: u32) -> f32 {
  let word = pcg4d(vec4u(element, params.stream, params.seed, 0u)).x;
  return f32(i32(2u * (word >> 8u) + 1u) - 16777216) * params.factor;
}
{% else %}
fn halves(v: vec4u) -> u32 {
  let sums = (v & vec4u(0xffffu)) + (v >> vec4u(16u));
  return sums.x + sums.y + sums.z + sums.w;
}

fn number(element: u32) -> f32 {
  let sum = halves(pcg4d(vec4u(element, params.stream, params.seed, 0u))) + halves(pcg4d(vec4u(element, params.stream, params.seed, 1u)));
  return f32(i32(sum) - 524280) * params.factor;
}
{% endif %}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * 64u + lane;
  if (4u * i >= params.count) { return; }
  let element = params.first + 4u * i;
  let v = vec4f(number(element), number(element + 1u), number(element + 2u), number(element + 3u));
  store_value(i, select(vec4f(), v, 4u * i + vec4u(0u, 1u, 2u, 3u) < vec4u(params.count)));
}

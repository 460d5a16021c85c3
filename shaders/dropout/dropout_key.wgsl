// The key of a micro-batch's masks: key[0] = hash of (seed, number of the update, number of the micro-batch), key[1] = number of the micro-batch.
// FIRST: it is the update's first micro-batch; otherwise it follows the one that key[1] holds. control: see ops/control.ts. params: seed. One invocation.

fn mix(x: u32) -> u32 {
  var v = x ^ (x >> 16u);
  v *= 0x21f0aaadu;
  v ^= v >> 15u;
  v *= 0xd35a2d97u;
  return v ^ (v >> 15u);
}

@compute @workgroup_size(1)
fn main() {
{% if FIRST %}
  let micro_batch = 0u;
{% else %}
  let micro_batch = key[1] + 1u;
{% endif %}
  key[0] = mix(micro_batch + mix(u32(control.decided) + mix(params.seed ^ 0x9e3779b9u)));
  key[1] = micro_batch;
}

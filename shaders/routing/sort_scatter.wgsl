// Radix sort, last step of a pass: every key goes to its place, keys of equal digits in the order that they had.
//
// keys, order u32 [n] (FIRST: the order is 0, 1, …); counts u32 [RADIX, blocks], where the keys of a digit and a block begin
// (not software: among those of the digit, and totals u32 [RADIX], how many keys have each digit); keys_out, order_out u32 [n].
//
// An invocation owns consecutive keys: a block (software), or ITEMS of the THREADS · ITEMS keys of its workgroup's block. Its own counts by digit, summed over
// the invocations before it, give its places, so that the sort is stable. Bound by the scattered writes.

fn place(i: u32, key: u32, to: u32) {
  keys_out[to] = key;
{% if FIRST %}
  order_out[to] = i;
{% else %}
  order_out[to] = order[i];
{% endif %}
}

{% if SOFTWARE %}
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = workgroup_number(id, count) * 8u + lane;
  if (block >= params.blocks) { return; }
  let end = min((block + 1u) * params.block, params.n);
  for (var i = block * params.block; i < end; i++) {
    let key = keys[i];
    let slot = ((key >> params.shift) % RADIX) * params.blocks + block;
    let to = counts[slot];
    counts[slot] = to + 1u;
    place(i, key, to);
  }
}
{% else %}
// Eight runs of lanes share the work of summing a digit's counts over the lanes.
const RUNS = 8u;
const RUN = THREADS / RUNS;
var<workgroup> own: array<u32, RADIX * THREADS>;
var<workgroup> runs: array<u32, RADIX * RUNS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = workgroup_number(id, count);
  if (block >= params.blocks) { return; }
  let first = block * params.block + lane * ITEMS;
  for (var d = 0u; d < RADIX; d++) { own[d * THREADS + lane] = 0u; }
  for (var i = first; i < min(first + ITEMS, params.n); i++) {
    own[((keys[i] >> params.shift) % RADIX) * THREADS + lane] += 1u;
  }
  workgroupBarrier();
  let digit = lane % RADIX;
  let run = lane / RADIX;
  var sum = 0u;
  for (var i = 0u; i < RUN; i++) { sum += own[digit * THREADS + run * RUN + i]; }
  runs[digit * RUNS + run] = sum;
  workgroupBarrier();
  sum = counts[digit * params.blocks + block];
  for (var d = 0u; d < digit; d++) { sum += totals[d]; }
  for (var r = 0u; r < run; r++) { sum += runs[digit * RUNS + r]; }
  for (var i = 0u; i < RUN; i++) {
    let at = digit * THREADS + run * RUN + i;
    let c = own[at];
    own[at] = sum;
    sum += c;
  }
  workgroupBarrier();
  for (var i = first; i < min(first + ITEMS, params.n); i++) {
    let key = keys[i];
    let slot = ((key >> params.shift) % RADIX) * THREADS + lane;
    let to = own[slot];
    own[slot] = to + 1u;
    place(i, key, to);
  }
}
{% endif %}

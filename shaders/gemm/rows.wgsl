// Which row an invocation works on, and what the invocations of a row come to together. Put before the kernels that use it.
//
// BY_ROW: an invocation takes a row by itself, so there is nothing to share (software adapters: workgroup memory and barriers cost
// more than they save). Otherwise a workgroup of LANES invocations (a power of two) shares one row and reduces through workgroup
// memory, or with SUBGROUPS, where it is one subgroup of a software adapter, by shuffles. A row's items are first_of(lane), first_of(lane) + STRIDE, ….
//
// reduce_sum, reduce_max: over the row's invocations in a fixed tree, the result in each of them. All of them have to call it.
{% if BY_ROW %}
const STRIDE = 1u;

fn row_of(group: u32, lane: u32) -> u32 { return group * LANES + lane; }
fn first_of(lane: u32) -> u32 { return 0u; }
fn reduce_sum(lane: u32, value: f32) -> f32 { return value; }
fn reduce_max(lane: u32, value: f32) -> f32 { return value; }
{% elif SUBGROUPS %}
const STRIDE = LANES;

fn row_of(group: u32, lane: u32) -> u32 { return group; }
fn first_of(lane: u32) -> u32 { return lane; }
{% for what, both in [["sum", "reduced + other"], ["max", "max(reduced, other)"]] %}
fn reduce_{{ what }}(lane: u32, value: f32) -> f32 {
  var reduced = value;
{% for i in range(4) %}
{% if 2 ** i < LANES %}
  { let other = subgroupShuffle(reduced, lane ^ {{ 2 ** i }}u); reduced = {{ both }}; }
{% endif %}
{% endfor %}
  return reduced;
}
{% endfor %}
{% else %}
const STRIDE = LANES;
var<workgroup> reduced: array<f32, LANES>;

fn row_of(group: u32, lane: u32) -> u32 { return group; }
fn first_of(lane: u32) -> u32 { return lane; }

fn reduce_sum(lane: u32, value: f32) -> f32 {
  // The result of an earlier reduction may still be read.
  workgroupBarrier();
  reduced[lane] = value;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { reduced[lane] += reduced[lane + width]; }
    workgroupBarrier();
  }
  return reduced[0];
}

fn reduce_max(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  reduced[lane] = value;
  workgroupBarrier();
  for (var width = LANES / 2u; width > 0u; width /= 2u) {
    if (lane < width) { reduced[lane] = max(reduced[lane], reduced[lane + width]); }
    workgroupBarrier();
  }
  return reduced[0];
}
{% endif %}

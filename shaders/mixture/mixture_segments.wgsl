// The places of sorted entries in padded rows: entry i of the sorted ones, of group g, goes to row row_of[g] + i − begin[g].
//
// begin u32 [groups + 1 or more], row_of u32 [groups + 1]; order, keys u32 [n]: the entries sorted by group, and their groups.
// Written: source u32 [rows], the entry of each row; place u32 [n], the row of each entry; of_tile u32 [rows / TILE], the group of each tile. NONE where there is none.
// DROPS: entries of a group beyond the last have no row. rows is at least n. An invocation does a row, and finds its group by bisection. Bound by latency.

const NONE = 0xffffffffu;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup_number(id, count) * WORKGROUP + lane;
  if (row >= params.rows) { return; }
  // The first group that ends after this row; empty ones end where they begin.
  var low = 0u;
  var high = params.groups;
  while (low < high) {
    let middle = (low + high) / 2u;
    if (row_of[middle + 1u] <= row) { low = middle + 1u; } else { high = middle; }
  }
  let used = low < params.groups;
  if (row % TILE == 0u) { of_tile[row / TILE] = select(NONE, low, used); }
  var entry = NONE;
  if (used) {
    let i = begin[low] + row - row_of[low];
    if (i < begin[low + 1u]) {
      entry = order[i];
      place[entry] = row;
    }
  }
  source[row] = entry;
{% if DROPS %}
  if (row < params.n && keys[row] >= params.groups) { place[order[row]] = NONE; }
{% endif %}
}

// Where each group's rows begin once each is padded to whole tiles: row_of[g + 1] = row_of[g] + its entries rounded up to TILE.
//
// begin u32 [groups + 1 or more]: where each group's entries begin among the sorted ones; row_of u32 [groups + 1]. One invocation: the groups are few, and each needs the one before it.

@compute @workgroup_size(1)
fn main() {
  var row = 0u;
  for (var group = 0u; group < params.groups; group++) {
    row_of[group] = row;
    row += (begin[group + 1u] - begin[group] + TILE - 1u) / TILE * TILE;
  }
  row_of[params.groups] = row;
}

// A token's kept experts first. ASCENDING: in ascending order, so that sums over them have one order whatever parts the experts' tables lie in; otherwise in their own.
//
// index u32, score f32 [T · per] as the router gives them; sorted u32, weight f32 [T · per] in that order, equal experts in their own; place u32 [T · per]: where an
// assignment went. An expert with score 0 adds nothing: it becomes params.none, a number beyond all experts, and comes last.
// An invocation places one assignment: it counts those before it. Bound by the loads of the token's other experts, which caches hold.

fn key(at: u32) -> u32 { return select(index[at], params.none, score[at] == 0.0); }

fn rank(key: u32) -> u32 { return {{ "key" if ASCENDING else "select(0u, 1u, key == params.none)" }}; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = workgroup_number(id, count) * WORKGROUP + lane;
  if (i >= params.n) { return; }
  let begin = i / params.per * params.per;
  let own = key(i);
  var before = 0u;
  for (var other = begin; other < begin + params.per; other++) {
    let its = rank(key(other));
    before += select(0u, 1u, its < rank(own) || (its == rank(own) && other < i));
  }
  sorted[begin + before] = own;
  weight[begin + before] = score[i];
  place[i] = before;
}

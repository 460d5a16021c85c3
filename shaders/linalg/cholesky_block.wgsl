// A block on the diagonal of H = R Rᵀ, R upper triangular: H[s, s] = R Rᵀ from its last column to its first, then U = R⁻¹.
//
// h: [n, stride] f32, symmetric, of which the block of `count` rows and columns from `start` is read (its upper triangle);
// inverse, negative: [B, B], U and −U, zero beyond `count`; row: [B, stride], U in the columns of the block; failed: u32, set to 1
// where a pivot is not positive. params: start, count, stride (numbers).
//
// One workgroup of B invocations: an invocation has a row of R while the block is factored, then a column of U. Bound by latency:
// three barriers a column.

const PITCH = B + 1u;
var<workgroup> r: array<f32, {{ B * (B + 1) }}>;
var<workgroup> inverted: array<f32, {{ B * (B + 1) }}>;

@compute @workgroup_size(B)
fn main(@builtin(local_invocation_index) lane: u32) {
  let n = params.count;
  let at = params.start * params.stride + params.start;
  for (var i = 0u; i < n; i++) {
    if (lane < n) { r[i * PITCH + lane] = h[at + i * params.stride + lane]; }
  }
  workgroupBarrier();
  for (var step = 0u; step < n; step++) {
    let j = n - 1u - step;
    if (lane == j) {
      let pivot = r[j * PITCH + j];
      if (pivot > 0.0) {
        r[j * PITCH + j] = sqrt(pivot);
      } else {
        failed[0] = 1u;
        r[j * PITCH + j] = 1.0;
      }
    }
    workgroupBarrier();
    if (lane < j) { r[lane * PITCH + j] /= r[j * PITCH + j]; }
    workgroupBarrier();
    if (lane < j) {
      let factor = r[lane * PITCH + j];
      for (var k = lane; k < j; k++) {
        r[lane * PITCH + k] = fma(-factor, r[k * PITCH + j], r[lane * PITCH + k]);
      }
    }
    workgroupBarrier();
  }
  // Column `lane` of the inverse, from the diagonal up.
  for (var i = 0u; i < B; i++) { inverted[i * PITCH + lane] = 0.0; }
  if (lane < n) {
    inverted[lane * PITCH + lane] = 1.0 / r[lane * PITCH + lane];
    for (var step = 1u; step <= lane; step++) {
      let i = lane - step;
      var sum = 0.0;
      for (var k = i + 1u; k <= lane; k++) {
        sum = fma(r[i * PITCH + k], inverted[k * PITCH + lane], sum);
      }
      inverted[i * PITCH + lane] = -sum / r[i * PITCH + i];
    }
  }
  for (var i = 0u; i < B; i++) {
    let value = inverted[i * PITCH + lane];
    inverse[i * B + lane] = value;
    negative[i * B + lane] = -value;
    if (i < n && lane < n) { row[i * params.stride + params.start + lane] = value; }
  }
}

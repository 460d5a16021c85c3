// What one update does, decided on the GPU so that no step waits for the host: the global norm, whether all of it is finite, the clip,
// the loss scale, bias corrections. One invocation.
//
// partials: [count] sums of squares of the (scaled) gradients. loss: [2] (cross-entropy, balance) of the step. schedule: [0] the learning rate.
// metrics: a ring of [ring, 8]: loss, balance, norm, lr, loss scale, applied, skipped so far, skipped in a row.
// control: [16], numbered by the constants below; the first five are state, the others are this step's.
// params: count, ring, growth (applied updates until the loss scale grows; 0: it is fixed), clip, ln_beta1, ln_beta2, and of the loss scale factor, backoff,
// minimum, maximum.
const LOSS_SCALE = 0u;    // multiplies the loss
const GOOD = 1u;          // applied updates since the scale last changed
const UPDATES = 2u;       // applied updates
const SKIPPED = 3u;       // skipped updates
const IN_ROW = 4u;        // skipped updates since the last applied one
const STEP = 5u;          // updates decided so far, applied or not

// 1 − eˣ for x ≤ 0, without the cancellation near 0.
fn one_minus_exp(x: f32) -> f32 {
  if (x < -0.5) { return 1.0 - exp(x); }
  var term = x;
  var sum = x;
  for (var n = 2.0; n < 12.0; n += 1.0) {
    term *= x / n;
    sum += term;
  }
  return -sum;
}

// By the exponent's bits, for a compiler may assume that there are no NaNs to compare.
fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(1)
fn main() {
  var squares = 0.0;
  for (var i = 0u; i < params.count; i++) { squares += partials[i]; }
  let scale = control[LOSS_SCALE];
  let norm = sqrt(squares) / scale;
  let finite = is_finite(squares) && is_finite(loss[0]);
  let step = u32(control[STEP]);

  control[{{ APPLY }}] = select(0.0, 1.0, finite);
  control[{{ LR }}] = schedule[0];
  control[{{ MULTIPLIER }}] = select(0.0, min(1.0, params.clip / (norm + 1e-6)) / scale, finite);
  control[STEP] += 1.0;
  if (finite) {
    control[UPDATES] += 1.0;
    control[IN_ROW] = 0.0;
    control[GOOD] += 1.0;
  } else {
    control[SKIPPED] += 1.0;
    control[IN_ROW] += 1.0;
    control[GOOD] = 0.0;
  }
  control[{{ CORRECTION1 }}] = one_minus_exp(control[UPDATES] * params.ln_beta1);
  control[{{ CORRECTION2 }}] = one_minus_exp(control[UPDATES] * params.ln_beta2);

  let row = (step % params.ring) * 8u;
  metrics[row] = loss[0];
  metrics[row + 1u] = loss[1];
  metrics[row + 2u] = norm;
  metrics[row + 3u] = schedule[0];
  metrics[row + 4u] = scale;
  metrics[row + 5u] = select(0.0, 1.0, finite);
  metrics[row + 6u] = control[SKIPPED];
  metrics[row + 7u] = control[IN_ROW];

  if (params.growth > 0u) {
    if (!finite) {
      control[LOSS_SCALE] = max(params.minimum, scale * params.backoff);
    } else if (u32(control[GOOD]) >= params.growth) {
      control[LOSS_SCALE] = min(params.maximum, scale * params.factor);
      control[GOOD] = 0.0;
    }
  }
}

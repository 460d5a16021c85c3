// Decides an update on the GPU, so that no step waits for the host: the global norm, whether all of it is finite, the clip,
// the loss scale, bias corrections. One invocation.
//
// partials: [count] sums of squares of the (scaled) gradients. loss, schedule, control and the ring metrics: see ops/control.ts.
// params: count, ring, growth (applied updates until the loss scale grows; 0: it is fixed), clip, ln_beta1, ln_beta2, and of the loss scale factor, backoff,
// minimum, maximum.

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
  let scale = control.loss_scale;
  let norm = sqrt(squares) / scale;
  let finite = is_finite(squares) && is_finite(loss.cross_entropy);
  let step = u32(control.decided);

  control.apply = select(0.0, 1.0, finite);
  control.lr = schedule.lr;
  control.multiplier = select(0.0, min(1.0, params.clip / (norm + 1e-6)) / scale, finite);
  control.decided += 1.0;
  if (finite) {
    control.updates += 1.0;
    control.skipped_in_row = 0.0;
    control.good += 1.0;
  } else {
    control.skipped += 1.0;
    control.skipped_in_row += 1.0;
    control.good = 0.0;
  }
  control.correction1 = one_minus_exp(control.updates * params.ln_beta1);
  control.correction2 = one_minus_exp(control.updates * params.ln_beta2);

  let row = step % params.ring;
  metrics[row].loss = loss.cross_entropy;
  metrics[row].balance = loss.balance;
  metrics[row].grad_norm = norm;
  metrics[row].lr = schedule.lr;
  metrics[row].loss_scale = scale;
  metrics[row].applied = select(0.0, 1.0, finite);
  metrics[row].skipped = control.skipped;
  metrics[row].skipped_in_row = control.skipped_in_row;

  if (params.growth > 0u) {
    if (!finite) {
      control.loss_scale = max(params.minimum, scale * params.backoff);
    } else if (u32(control.good) >= params.growth) {
      control.loss_scale = min(params.maximum, scale * params.factor);
      control.good = 0.0;
    }
  }
}

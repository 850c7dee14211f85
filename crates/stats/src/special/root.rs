//! Roots of monotone functions between two ends, with a bounded number of steps.

/// Halvings that bring any interval of doubles to neighbouring numbers, with room to spare.
const MOST_HALVINGS: usize = 200;
/// Steps of Newton's method, of which most calls need fewer than ten.
const MOST_STEPS: usize = 200;
/// Moves below this, relative to 1 + |x|, are close to the root.
const NEAR: f64 = 1e-9;

/// Where `f` changes its sign between `low` and `high`, by halving. `f(low)` counts as negative and `f(high)` as
/// positive; when they are not, the nearer end results.
pub(crate) fn bisect(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..MOST_HALVINGS {
        let middle = 0.5 * (low + high);
        if middle <= low.min(high) || middle >= low.max(high) {
            break;
        }
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Where the increasing function of `step` is zero, to a few units in the last place of 1 + |x|: Newton's method that falls
/// back to halving when it leaves the bracket. `step` returns the value and the derivative.
pub(crate) fn newton(
    step: impl Fn(f64) -> (f64, f64),
    mut low: f64,
    mut high: f64,
    start: f64,
) -> f64 {
    let mut x = if start > low && start < high {
        start
    } else {
        0.5 * (low + high)
    };
    let mut last_move = high - low;
    let mut last_value = f64::INFINITY;
    for _ in 0..MOST_STEPS {
        let (value, slope) = step(x);
        let scale = 1.0 + x.abs();
        // Close to the root a value that no longer falls is rounding.
        let is_rounding = last_move < NEAR * scale && value.abs() >= 0.5 * last_value;
        if value == 0.0 || is_rounding {
            break;
        }
        last_value = value.abs();
        if value < 0.0 {
            low = x;
        } else {
            high = x;
        }
        let mut next = x - value / slope;
        let distance = (next - x).abs();
        if distance <= 2.0 * f64::EPSILON * scale {
            break;
        }
        let is_slow = distance > 0.9 * last_move && last_move >= NEAR * scale;
        if !(next > low && next < high) || is_slow {
            next = 0.5 * (low + high);
        }
        last_move = (next - x).abs();
        x = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_the_cube_root() {
        let found = bisect(|x| x * x * x - 5.0, 0.0, 5.0);
        assert!((found - 5f64.cbrt()).abs() < 1e-15, "{found}");
        let found = newton(|x| (x * x * x - 5.0, 3.0 * x * x), 0.0, 5.0, 0.01);
        assert!((found - 5f64.cbrt()).abs() < 1e-15, "{found}");
    }
}

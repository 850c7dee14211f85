//! Roots of monotone functions between two ends, with a bounded number of steps.

/// Halvings that bring any interval of doubles to neighbouring numbers, with room to spare.
const MOST_HALVINGS: usize = 200;
/// Steps of Newton's method, of which most calls need fewer than ten.
const MOST_STEPS: usize = 200;

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

/// Where the increasing function of `step` is zero: Newton's method that falls back to halving when it leaves the
/// bracket. `step` returns the value and the derivative.
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
    for _ in 0..MOST_STEPS {
        let (value, slope) = step(x);
        if value == 0.0 {
            return x;
        }
        if value < 0.0 {
            low = x;
        } else {
            high = x;
        }
        let mut next = x - value / slope;
        let halves = !(next > low && next < high) || (next - x).abs() > 0.9 * last_move;
        if halves {
            next = 0.5 * (low + high);
        }
        last_move = (next - x).abs();
        x = next;
        let negligible = 4.0 * f64::EPSILON * x.abs().max(f64::MIN_POSITIVE);
        if last_move <= negligible || high - low <= negligible {
            break;
        }
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

//! The inputs of a vector, read leniently: what no method can take is an undefined state, not an unreadable file.

use flywheel_stats::Undefined;
use flywheel_stats::accumulate::{CrossMoments, Moments};
use flywheel_stats::proportion::Proportion;
use serde_json::Value;

/// Why a function gave no answer.
pub(super) enum Failure {
    Undefined(Undefined),
    Unreadable(String),
}

impl From<Undefined> for Failure {
    fn from(reason: Undefined) -> Self {
        Self::Undefined(reason)
    }
}

type Read<T> = Result<T, Failure>;

/// An object of inputs.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    value: &'a Value,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(value: &'a Value) -> Self {
        Self { value }
    }

    /// A member that is there and not null.
    fn given(self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn any(self, name: &str) -> Read<&'a Value> {
        self.given(name)
            .ok_or_else(|| Failure::Unreadable(format!("the input `{name}` is missing")))
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.given(name).is_some()
    }

    pub(super) fn number(self, name: &str) -> Read<f64> {
        number_of(self.any(name)?)
            .ok_or_else(|| Failure::Unreadable(format!("the input `{name}` is no number")))
    }

    pub(super) fn number_or(self, name: &str, default: f64) -> Read<f64> {
        if self.has(name) {
            self.number(name)
        } else {
            Ok(default)
        }
    }

    pub(super) fn alpha(self) -> Read<f64> {
        self.number_or("alpha", 0.05)
    }

    pub(super) fn count(self, name: &str) -> Read<u64> {
        Ok(count_of(self.number(name)?)?)
    }

    pub(super) fn flag(self, name: &str, default: bool) -> bool {
        self.given(name).and_then(Value::as_bool).unwrap_or(default)
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.given(name).and_then(Value::as_str)
    }

    pub(super) fn numbers(self, name: &str) -> Read<Vec<f64>> {
        numbers_of(self.any(name)?, name)
    }

    pub(super) fn numbers_or(self, name: &str, default: &[f64]) -> Read<Vec<f64>> {
        if self.has(name) {
            self.numbers(name)
        } else {
            Ok(default.to_vec())
        }
    }

    pub(super) fn counts(self, name: &str) -> Read<Vec<u64>> {
        let numbers = self.numbers(name)?.into_iter();
        Ok(numbers.map(count_of).collect::<Result<_, _>>()?)
    }

    pub(super) fn table(self, name: &str) -> Read<Vec<Vec<u64>>> {
        let rows = self
            .any(name)?
            .as_array()
            .ok_or_else(|| Failure::Unreadable(format!("the input `{name}` is no table")))?;
        rows.iter()
            .map(|row| {
                let numbers = numbers_of(row, name)?.into_iter();
                Ok(numbers.map(count_of).collect::<Result<_, _>>()?)
            })
            .collect()
    }

    pub(super) fn part(self, name: &str) -> Read<Self> {
        self.any(name).map(Self::new)
    }

    /// An arm `{x, n}`.
    pub(super) fn proportion(self, name: &str) -> Read<Proportion> {
        let arm = self.part(name)?;
        Ok(Proportion::new(arm.count("x")?, arm.count("n")?)?)
    }

    /// An arm `{n, mean, var}`.
    pub(super) fn moments(self, name: &str) -> Read<Moments> {
        let arm = self.part(name)?;
        let moments =
            Moments::from_variance(arm.count("n")?, arm.number("mean")?, arm.number("var")?)?;
        Ok(moments)
    }

    /// An arm of raw sums over two columns.
    pub(super) fn sums(self, name: &str, columns: [&str; 5]) -> Read<CrossMoments<2>> {
        let arm = self.part(name)?;
        let [x, y, xx, yy, xy] = columns;
        let moments = CrossMoments::from_sums(
            arm.count("n")?,
            [arm.number(x)?, arm.number(y)?],
            [arm.number(xx)?, arm.number(yy)?],
            arm.number(xy)?,
        )?;
        Ok(moments)
    }
}

/// A number, also one that JSON can only spell.
pub(super) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => text.to_ascii_lowercase().parse().ok(),
        _ => None,
    }
}

fn numbers_of(value: &Value, name: &str) -> Read<Vec<f64>> {
    let unreadable = || Failure::Unreadable(format!("the input `{name}` is no list of numbers"));
    value
        .as_array()
        .ok_or_else(unreadable)?
        .iter()
        // A null among numbers is a value that is missing, which no method takes.
        .map(|value| {
            if value.is_null() {
                Ok(f64::NAN)
            } else {
                number_of(value).ok_or_else(unreadable)
            }
        })
        .collect()
}

fn count_of(number: f64) -> Result<u64, Undefined> {
    // Beyond 2^53 a double is no count any more.
    if number >= 0.0 && number.fract() == 0.0 && number <= 9e15 {
        Ok(number as u64)
    } else {
        Err(Undefined::Domain("a count must be a whole number from 0"))
    }
}

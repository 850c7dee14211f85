//! What a function answers: named members, each a number, several, or undefined.

use std::fmt;

use flywheel_stats::undefined::{Defined, Undefined};

/// The members of an answer.
#[derive(Default)]
pub(super) struct Answer {
    members: Vec<(&'static str, Got)>,
    numbered: Vec<(String, Got)>,
    /// Why no member is defined.
    reason: Option<Got>,
}

/// One member.
pub(super) enum Got {
    Number(f64),
    Numbers(Vec<f64>),
    Undefined(Undefined),
}

impl Answer {
    pub(super) fn undefined(reason: Undefined) -> Self {
        Self {
            reason: Some(Got::Undefined(reason)),
            ..Self::default()
        }
    }

    pub(super) fn number(mut self, name: &'static str, value: f64) -> Self {
        self.members.push((name, Got::Number(value)));
        self
    }

    pub(super) fn defined(mut self, name: &'static str, value: Defined<f64>) -> Self {
        self.members.push((name, got(value)));
        self
    }

    /// A member whose name is made at run time.
    pub(super) fn named(mut self, name: String, value: Defined<f64>) -> Self {
        self.numbered.push((name, got(value)));
        self
    }

    pub(super) fn numbers(mut self, name: &'static str, values: Vec<f64>) -> Self {
        self.members.push((name, Got::Numbers(values)));
        self
    }

    pub(super) fn interval(self, interval: Defined<flywheel_stats::Interval>) -> Self {
        self.defined("lower", interval.map(|interval| interval.low))
            .defined("upper", interval.map(|interval| interval.high))
    }

    pub(super) fn member(&self, name: &str) -> Option<&Got> {
        let members = self.members.iter().map(|(known, got)| (*known, got));
        let numbered = self.numbered.iter().map(|(known, got)| (&**known, got));
        members
            .chain(numbered)
            .find(|(known, _)| *known == name)
            .map(|(_, got)| got)
            .or(self.reason.as_ref())
    }

    /// A member that is not a number, which none may be.
    pub(super) fn not_a_number(&self) -> Option<String> {
        let members = self.members.iter().map(|(name, got)| (*name, got));
        let numbered = self.numbered.iter().map(|(name, got)| (&**name, got));
        let is_nan = |got: &Got| match got {
            Got::Number(value) => value.is_nan(),
            Got::Numbers(values) => values.iter().any(|value| value.is_nan()),
            Got::Undefined(_) => false,
        };
        members
            .chain(numbered)
            .find(|(_, got)| is_nan(got))
            .map(|(name, _)| name.to_owned())
    }

    /// The first member that has a value.
    pub(super) fn first_defined(&self) -> Option<(&'static str, &Got)> {
        self.members
            .iter()
            .find(|(_, got)| !matches!(got, Got::Undefined(_)))
            .map(|(name, got)| (*name, got))
    }
}

fn got(value: Defined<f64>) -> Got {
    match value {
        Ok(value) => Got::Number(value),
        Err(reason) => Got::Undefined(reason),
    }
}

impl fmt::Display for Got {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(formatter, "{value}"),
            Self::Numbers(values) => write!(formatter, "{values:?}"),
            Self::Undefined(reason) => write!(formatter, "undefined: {reason}"),
        }
    }
}

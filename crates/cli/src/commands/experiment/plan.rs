//! What an experiment plans, as flags.

use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

/// The plan of a new experiment.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The metric that decides; `flywheel app metrics APP` lists them [without: no verdict]
    #[arg(long, value_name = "METRIC", requires = "mde")]
    primary: Option<String>,
    /// The smallest effect on it that matters: 5pt are five points of a share, 5% five per cent of the control, 0.2 is in its unit
    #[arg(long, value_name = "EFFECT")]
    mde: Option<Effect>,
    /// A metric that may not become worse by more than a margin, such as `latency_p95=10%` or `hard_failures=1pt`, or `none`
    /// [default: failures by a point, latency and cost by 10%]
    #[arg(long = "guardrail", value_name = "METRIC=MARGIN")]
    guardrails: Vec<Guardrail>,
    /// How results may be read: at any time, at planned looks, both, or once [default: anytime]
    #[arg(long, value_parser = ["anytime", "planned", "hybrid", "fixed"])]
    mode: Option<String>,
    /// The chance of a verdict where there is no difference [default: 0.05]
    #[arg(long)]
    alpha: Option<f64>,
    /// The chance of finding the smallest effect that matters [default: 0.8]
    #[arg(long)]
    power: Option<f64>,
    /// Full days before an arm may be promoted [default: 7]
    #[arg(long, value_name = "DAYS")]
    min_days: Option<u32>,
    /// The arm that the others are compared with [default: the first]
    #[arg(long, value_name = "ARM")]
    control: Option<String>,
    /// A tag by whose value the effect is broken down; may be given three times
    #[arg(long = "segment", value_name = "TAG")]
    segments: Vec<String>,
    /// Use the primary metric of each unit before the experiment to reduce the variance
    #[arg(long)]
    covariate: bool,
    /// All arms serve the same, to test the experiment itself
    #[arg(long)]
    aa: bool,
}

/// An effect or a margin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Effect {
    Absolute(f64),
    Relative(f64),
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected 5pt (five points of a share), 5% (relative to the control), or a number in the metric's unit"
                .to_owned()
        };
        let number = |text: &str| text.trim().parse().map_err(|_| expected());
        let points = ["points", "point", "pts", "pt"];
        if let Some(text) = points.iter().find_map(|unit| text.strip_suffix(unit)) {
            return Ok(Self::Absolute(number(text)? / 100.0));
        }
        match text.strip_suffix('%') {
            Some(text) => Ok(Self::Relative(number(text)? / 100.0)),
            None => Ok(Self::Absolute(number(text)?)),
        }
    }
}

impl Effect {
    pub(super) fn value(self) -> Value {
        match self {
            Self::Absolute(value) => json!({"absolute": value}),
            Self::Relative(value) => json!({"relative": value}),
        }
    }
}

/// A guardrail, or that there is to be none.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Guardrail {
    None,
    Metric(String, Effect),
}

impl FromStr for Guardrail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (metric, margin) = text
            .split_once('=')
            .ok_or("expected METRIC=MARGIN, such as `latency_p95=10%`, or `none`")?;
        Ok(Self::Metric(metric.to_owned(), margin.parse()?))
    }
}

/// The guardrails as the server wants them; nothing if none were given.
pub(super) fn guardrails(given: &[Guardrail]) -> Option<Value> {
    if given.is_empty() {
        return None;
    }
    let rules: Vec<Value> = given
        .iter()
        .filter_map(|guardrail| match guardrail {
            Guardrail::None => None,
            Guardrail::Metric(metric, margin) => {
                Some(json!({"metric": metric, "margin": margin.value()}))
            }
        })
        .collect();
    Some(rules.into())
}

impl PlanArgs {
    /// The plan as the server wants it.
    pub(super) fn body(&self) -> Value {
        let mut body = Map::new();
        let optional = [
            ("primary", self.primary.clone().map(Value::from)),
            ("mde", self.mde.map(Effect::value)),
            ("guardrails", guardrails(&self.guardrails)),
            ("mode", self.mode.clone().map(Value::from)),
            ("alpha", self.alpha.map(Value::from)),
            ("power", self.power.map(Value::from)),
            ("minimum_days", self.min_days.map(Value::from)),
            ("control", self.control.clone().map(Value::from)),
            (
                "segments",
                (!self.segments.is_empty()).then(|| json!(self.segments)),
            ),
            ("covariate", self.covariate.then(|| json!(true))),
            ("aa", self.aa.then(|| json!(true))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        }
        body.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_say_what_they_are_of() {
        for (text, expected) in [
            ("5pt", Effect::Absolute(0.05)),
            ("2 points", Effect::Absolute(0.02)),
            ("10%", Effect::Relative(0.1)),
            ("0.25", Effect::Absolute(0.25)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert!("five".parse::<Effect>().is_err());
        assert_eq!(
            "latency_p95=10%".parse(),
            Ok(Guardrail::Metric(
                "latency_p95".into(),
                Effect::Relative(0.1)
            ))
        );
        assert!("latency_p95".parse::<Guardrail>().is_err());
        assert_eq!(guardrails(&[Guardrail::None]), Some(json!([])));
    }
}

//! What an experiment plans, as flags.

use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::Context;
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;

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
    /// Of a share.
    Points(f64),
    /// In the metric's unit.
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
            return Ok(Self::Points(number(text)?));
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
            Self::Points(points) => json!({"absolute": points / 100.0}),
            Self::Absolute(value) => json!({"absolute": value}),
            Self::Relative(value) => json!({"relative": value}),
        }
    }
}

/// Refuses points of a metric that is no share, of which they would be a hundredth of what was meant.
pub(super) fn must_be_shares(
    metrics: Record<'_>,
    primary: Option<&str>,
    mde: Option<Effect>,
    guardrails: &[Guardrail],
) -> Result<(), Refusal> {
    let guarded = guardrails.iter().filter_map(|guardrail| match guardrail {
        Guardrail::Metric(metric, margin) => Some(("--guardrail", metric.as_str(), *margin)),
        Guardrail::None => None,
    });
    let decisive = primary.zip(mde).map(|(metric, mde)| ("--mde", metric, mde));
    for (flag, name, effect) in decisive.into_iter().chain(guarded) {
        let Effect::Points(points) = effect else {
            continue;
        };
        let metric = metrics
            .items("items")
            .find(|metric| metric.text("name") == name);
        // What there is no metric of is refused with those there are.
        let Some(metric) = metric.filter(|metric| metric.text("kind") != "binary") else {
            continue;
        };
        let unit = match metric.text("unit") {
            "" => "its own unit",
            unit => unit,
        };
        return Err(Refusal::misuse(
            format!("{flag}: `{points}pt` are points of a share, and `{name}` is none"),
            format!(
                "give a number in {unit}, such as `{points}`, or per cent of the control, such as `{points}%`"
            ),
        ));
    }
    Ok(())
}

/// Whether any of them is in points, so that it matters what they are of.
pub(super) fn has_points(mde: Option<Effect>, guardrails: &[Guardrail]) -> bool {
    let mut margins = guardrails.iter().filter_map(|guardrail| match guardrail {
        Guardrail::Metric(_, margin) => Some(*margin),
        Guardrail::None => None,
    });
    let is_points = |effect: Effect| matches!(effect, Effect::Points(_));
    mde.is_some_and(is_points) || margins.any(is_points)
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
    /// Refuses points of a metric of the app that is no share.
    pub(super) async fn check(&self, app: &str, context: &Context<'_>) -> anyhow::Result<()> {
        if !has_points(self.mde, &self.guardrails) {
            return Ok(());
        }
        let target = Target::api("apps").at(app).at("metrics");
        let metrics = context.client.get(&target).await?;
        must_be_shares(
            Record(&metrics),
            self.primary.as_deref(),
            self.mde,
            &self.guardrails,
        )?;
        Ok(())
    }

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
    fn points_are_of_shares() {
        let metrics = json!({"items": [
            {"name": "rating", "kind": "ordinal", "unit": ""},
            {"name": "done", "kind": "binary", "unit": ""},
            {"name": "latency", "kind": "quantile", "unit": "ms"},
        ]});
        let check = |primary, mde: &str, guardrail: &str| {
            let mde = Some(mde.parse().unwrap());
            let guardrails = [guardrail.parse().unwrap()];
            let problem = must_be_shares(Record(&metrics), Some(primary), mde, &guardrails);
            problem.err().map(|refusal| refusal.to_string())
        };
        assert_eq!(check("done", "5pt", "latency=10%"), None);
        assert_eq!(check("rating", "0.2", "done=1pt"), None);
        assert_eq!(check("nothing", "5pt", "none"), None, "left to the server");
        let found = check("rating", "3pt", "none").unwrap();
        assert!(
            found.starts_with("--mde: `3pt` are points of a share"),
            "{found}"
        );
        let found = check("done", "5pt", "latency=10pt").unwrap();
        assert!(found.starts_with("--guardrail: `10pt`"), "{found}");
    }

    #[test]
    fn effects_say_what_they_are_of() {
        for (text, expected) in [
            ("5pt", Effect::Points(5.0)),
            ("2 points", Effect::Points(2.0)),
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
        assert_eq!(Effect::Points(5.0).value(), json!({"absolute": 0.05}));
        assert_eq!(guardrails(&[Guardrail::None]), Some(json!([])));
    }
}

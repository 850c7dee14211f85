//! What was planned, and what is compared.

use flywheel_core::experiment::{Experiment, UnitKind};
use flywheel_core::metric::MetricKind;
use flywheel_core::plan::{Plan, ReadingMode};
use jiff::Timestamp;

use super::amounts;
use crate::console::show::{self, Markup};
use crate::context::Context;
use crate::operations::readout::{Readout, words};
use crate::operations::{planning, served};
use crate::problem::ApiResult;

/// A plan as people read it.
pub(in crate::console) struct ShownPlan {
    /// Each with what it is called.
    pub(in crate::console) facts: Vec<(&'static str, String)>,
    pub(in crate::console) hash: Option<String>,
    pub(in crate::console) changes: Vec<ShownChange>,
}

/// A change of the plan after the start.
pub(in crate::console) struct ShownChange {
    pub(in crate::console) when: Markup,
    pub(in crate::console) by: String,
    pub(in crate::console) what: String,
    pub(in crate::console) before: String,
}

impl ShownPlan {
    pub(in crate::console) fn new(
        experiment: &Experiment,
        control: Option<f64>,
        now: Timestamp,
    ) -> Self {
        let plan = &experiment.plan;
        let share = |basis_points: u32| show::percent(f64::from(basis_points) / 1e4);
        let unit = match experiment.unit {
            UnitKind::User => "user",
            UnitKind::Session => "session",
            UnitKind::Request => "request",
        };
        let mut facts = facts(plan, control);
        facts.push(("unit", format!("each {unit} stays in its arm")));
        let mut takes_part = format!("{} of them", share(experiment.exposure));
        if experiment.layer_share < 10_000 {
            takes_part.push_str(&format!(
                ", within the {} that it holds of layer {}",
                share(experiment.layer_share),
                experiment.layer
            ));
        }
        facts.push(("takes part", takes_part));
        Self {
            facts,
            hash: experiment.plan_hash.map(|hash| hash.to_string()),
            changes: experiment
                .plan_changes
                .iter()
                .map(|change| ShownChange {
                    when: show::when(change.at, now),
                    by: change.by.clone(),
                    what: change.changed.join(", "),
                    before: change.before.to_string(),
                })
                .collect(),
        }
    }
}

/// The members of a plan, in the order in which one asks for them.
fn facts(plan: &Plan, control: Option<f64>) -> Vec<(&'static str, String)> {
    let percent = |share: f64| format!("{}%", amounts::number(share * 100.0));
    let primary = plan.primary.as_ref().and_then(|name| plan.metric(name));
    let base = plan.baseline.as_ref().map(|found| found.mean).or(control);
    let mut facts = vec![(
        "primary metric",
        plan.primary.as_ref().map_or_else(
            || "none, so there is no verdict".to_owned(),
            ToString::to_string,
        ),
    )];
    if let Some(mde) = plan.mde {
        facts.push((
            "smallest effect that matters",
            amounts::effect(primary, mde, base),
        ));
    }
    if let (Some(metric), Some(baseline)) = (primary, &plan.baseline) {
        facts.push((
            "before the start",
            format!(
                "{} over {} units",
                amounts::value(metric, baseline.mean),
                words::count(baseline.units as f64)
            ),
        ));
    }
    let guardrails: Vec<String> = plan
        .guardrails
        .iter()
        .map(|guardrail| {
            let metric = plan.metric(&guardrail.metric);
            let margin = amounts::effect(metric, guardrail.margin, None);
            format!("{} by at most {margin}", guardrail.metric)
        })
        .collect();
    if !guardrails.is_empty() {
        facts.push(("must not become worse", guardrails.join("; ")));
    }
    facts.push(("read", mode(plan.mode).to_owned()));
    let mut rates = format!("α = {}, power {}", percent(plan.alpha), percent(plan.power));
    if let (1.., Ok(each)) = (plan.guardrails.len(), planning::power_of_each(plan)) {
        rates.push_str(&format!(
            ", for which the metric has {}, as every guardrail must pass too",
            percent(each)
        ));
    }
    facts.push(("error rates", rates));
    facts.push((
        "at least",
        words::plural(u64::from(plan.minimum_days), "full day"),
    ));
    if plan.primary.is_some() {
        let floor = words::plural(plan.floor, "unit");
        facts.push(("judged from", format!("{floor} with an outcome per arm on")));
        facts.push(("takes", size(plan)));
    }
    if let Some(slow) = words::slow_guardrails(plan) {
        facts.push((
            "guardrails that take more units",
            format!("{slow}: a wider margin takes fewer"),
        ));
    }
    if !plan.segments.is_empty() {
        facts.push(("broken down by", plan.segments.join(", ")));
    }
    if plan.is_aa {
        facts.push(("kind", "A/A: all arms serve the same".to_owned()));
    }
    facts
}

/// How results may be read, in words.
pub(in crate::console) fn mode(mode: ReadingMode) -> &'static str {
    match mode {
        ReadingMode::Anytime => "at any time",
        ReadingMode::Planned => "at the end of each day, up to the planned number of units",
        ReadingMode::Hybrid => {
            "at any time for large effects, and once more at the planned number of units"
        }
        ReadingMode::Fixed => "once, at the planned number of units",
    }
}

/// How many units and days, as far as the traffic tells.
pub(in crate::console) fn size(plan: &Plan) -> String {
    let Some(size) = plan.size else {
        let primary = plan.primary.as_ref().and_then(|name| plan.metric(name));
        let is_quantile = primary.is_some_and(|metric| metric.kind == MetricKind::Quantile);
        return match is_quantile {
            true => "unknown: of a quantile it is not estimated".to_owned(),
            false => "unknown: the app’s traffic until now does not tell".to_owned(),
        };
    };
    let days = match (size.days, size.days_are_guessed) {
        (Some(days), false) => words::plural(u64::from(days), "day"),
        (Some(days), true) => format!(
            "about {}, a guess from little history",
            words::plural(u64::from(days), "day")
        ),
        (None, _) => "more days than today’s traffic can fill".to_owned(),
    };
    format!(
        "up to {} units, {} expected; {days}",
        words::count(size.largest),
        words::count(size.expected)
    )
}

/// An arm.
pub(super) struct ArmRow {
    pub(super) name: String,
    pub(super) is_control: bool,
    pub(super) label: String,
    pub(super) manifest: Option<String>,
    pub(super) weight: String,
    pub(super) units: String,
    pub(super) expected: String,
    pub(super) dropped: String,
}

impl ArmRow {
    pub(super) async fn all(
        context: &Context,
        experiment: &Experiment,
        readout: &Readout,
    ) -> ApiResult<Vec<Self>> {
        let mut session = context.state.read().await?;
        let mut rows = Vec::new();
        for (arm, found) in experiment.arms.iter().zip(&readout.arms) {
            let label = match &arm.manifest {
                Some(manifest) => served::find(&mut *session, manifest)
                    .await?
                    .map_or_else(|| "unknown".to_owned(), |served| served.label()),
                None => format!("follows {}", experiment.environment),
            };
            rows.push(Self {
                name: arm.name.to_string(),
                is_control: found.is_control,
                label,
                manifest: arm.manifest.map(|id| id.to_string()),
                weight: show::percent(f64::from(arm.weight) / 1e4),
                units: show::count(found.units),
                expected: words::count(found.expected.round()),
                dropped: show::count(found.dropped),
            });
        }
        Ok(rows)
    }
}

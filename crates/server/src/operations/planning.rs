//! Plans of experiments: from what is asked for to what is frozen at the start, with the app's own traffic as the basis.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_core::deployment::AppSettings;
use flywheel_core::experiment::{Arm, Experiment};
use flywheel_core::metric::{Direction, Metric, MetricKind};
use flywheel_core::name::{ArmName, MetricName};
use flywheel_core::plan::{
    self, Baseline, DEFAULT_ALPHA, DEFAULT_DAYS, DEFAULT_POWER, DEFAULT_TUNING, Effect, Guardrail,
    InvalidPlan, Plan, ReadingMode, Size,
};
use flywheel_stats::decision::GUARDRAIL_ALPHA;
use flywheel_stats::planning::duration::{self, Looks};
use flywheel_stats::planning::{ErrorRates, means, proportions};
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{quantile, ratio};
use flywheel_storage::statistics::{HistoryQuery, StatisticsStore, UnitHistory};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::moments;
use super::readout::words;
use crate::problem::{ApiResult, Problem};

/// How far back traffic is looked at.
const HISTORY_DAYS: i64 = 28;
/// A share this near to 0 or 1 is that, but for rounding.
const NEARLY: f64 = 1e-9;

/// A plan as it is asked for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewPlan {
    /// The arm that the others are compared with; the first if absent.
    pub control: Option<ArmName>,
    /// The metric that decides; without one there is no verdict.
    pub primary: Option<MetricName>,
    /// The smallest effect on it that matters: `{"absolute": 0.05}` in its unit, or `{"relative": 0.05}`.
    pub mde: Option<Effect>,
    /// Metrics that must not become worse by more than a margin; hard and soft failures, latency and cost if absent.
    pub guardrails: Option<Vec<Guardrail>>,
    /// How results may be read.
    pub mode: ReadingMode,
    /// The chance of a verdict where there is no difference; 0.05 if absent.
    pub alpha: Option<f64>,
    /// The chance of finding the smallest effect that matters; 0.8 if absent.
    pub power: Option<f64>,
    /// Full days before a verdict can ship; 7 if absent.
    pub minimum_days: Option<u32>,
    /// Whether all arms serve the same, to test the experiment itself.
    pub aa: bool,
    /// Tags by whose value effects are broken down, as hypotheses.
    pub segments: Vec<String>,
    /// Whether the primary metric of a unit before its first exposure is used to reduce the variance.
    pub covariate: bool,
}

impl From<InvalidPlan> for Problem {
    fn from(error: InvalidPlan) -> Self {
        Self::invalid(error.to_string())
    }
}

/// What is guarded where nothing else is asked for, as far as the app has such metrics: failures by one point, latency and
/// cost by a tenth.
pub(crate) fn default_guardrails(
    metrics: &[Metric],
    primary: Option<&MetricName>,
) -> Vec<Guardrail> {
    [
        ("hard_failures", Effect::Absolute(0.01)),
        ("soft_failures", Effect::Absolute(0.01)),
        ("latency_p95", Effect::Relative(0.1)),
        ("cost_per_call", Effect::Relative(0.1)),
    ]
    .into_iter()
    .filter_map(|(name, margin)| {
        let metric = metrics.iter().find(|metric| metric.name.as_str() == name)?;
        (Some(&metric.name) != primary).then(|| Guardrail {
            metric: metric.name.clone(),
            margin,
        })
    })
    .collect()
}

/// A plan for these arms, checked.
///
/// # Errors
/// When it names what is not there, or numbers that make no sense.
pub(super) fn make(new: NewPlan, settings: &AppSettings, arms: &[Arm]) -> ApiResult<Plan> {
    let names: Vec<ArmName> = arms.iter().map(|arm| arm.name.clone()).collect();
    let Some(control) = new.control.or_else(|| names.first().cloned()) else {
        return Err(Problem::invalid("an experiment needs at least two arms"));
    };
    let mut metrics = settings.metrics();
    if new.covariate {
        let primary = metrics
            .iter_mut()
            .find(|metric| Some(&metric.name) == new.primary.as_ref());
        if let Some(primary) = primary {
            primary.covariate = true;
        }
    }
    let guardrails = match (new.guardrails, &new.primary) {
        (Some(guardrails), _) => guardrails,
        (None, Some(primary)) => default_guardrails(&metrics, Some(primary)),
        (None, None) => Vec::new(),
    };
    let mut plan = Plan {
        primary: new.primary,
        mde: new.mde,
        guardrails,
        mode: new.mode,
        alpha: new.alpha.unwrap_or(DEFAULT_ALPHA),
        power: new.power.unwrap_or(DEFAULT_POWER),
        minimum_days: new.minimum_days.unwrap_or(DEFAULT_DAYS),
        is_aa: new.aa,
        segments: new.segments,
        ..Plan::unplanned(control, metrics)
    };
    plan.check(&names)?;
    if let Some(primary) = plan.primary.as_ref().and_then(|name| plan.metric(name)) {
        plan.floor = plan::floor(primary.kind);
    }
    let manifests: BTreeSet<_> = arms.iter().map(|arm| arm.manifest).collect();
    if plan.is_aa && manifests.len() > 1 {
        return Err(Problem::invalid(
            "an A/A test compares a manifest with itself, and these arms serve different ones",
        )
        .hint("leave out `--aa` (in the API `aa`), or give all arms the same manifest"));
    }
    if !plan.is_aa && plan.primary.is_some() && manifests.len() < arms.len() {
        return Err(Problem::invalid(
            "two arms serve the same manifest, so there is nothing to compare",
        )
        .hint("if the experiment itself is to be tested, say so: `--aa`, in the API `aa: true`"));
    }
    Ok(plan)
}

/// Which members of a plan are different.
pub(super) fn differences(before: &Plan, after: &Plan) -> Vec<String> {
    let read = |plan: &Plan| match serde_json::to_value(plan) {
        Ok(serde_json::Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let (before, after) = (read(before), read(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect()
}

/// Who will take part.
struct Traffic<'a> {
    arms: &'a [Arm],
    /// The share of units that will.
    share: f64,
}

/// An experiment's plan with what the app's traffic until a time says: the baseline, how many units it takes and how long.
///
/// # Errors
/// When the store fails, or the smallest effect that matters is larger than the metric can have.
pub async fn estimate(
    statistics: &dyn StatisticsStore,
    experiment: &Experiment,
    now: Timestamp,
) -> ApiResult<Plan> {
    let mut plan = experiment.plan.clone();
    let share = |basis_points: u32| f64::from(basis_points) / 10_000.0;
    let traffic = Traffic {
        arms: &experiment.arms,
        share: share(experiment.exposure) * share(experiment.layer_share),
    };
    let since = now
        .checked_sub(SignedDuration::from_hours(24 * HISTORY_DAYS))
        .unwrap_or(Timestamp::MIN);
    let query = HistoryQuery {
        app: experiment.app.clone(),
        environment: experiment.environment.clone(),
        unit: experiment.unit,
        metrics: plan.metrics.clone(),
        since,
        until: now,
    };
    let history = statistics.unit_history(&query).await?;
    plan.thresholds = thresholds(&plan, &history);
    plan.baseline = baseline(&plan, &history, since, now);
    let sized = size(&plan, &traffic)?;
    plan.size = sized.map(|(size, _)| size);
    plan.tuned_for = sized.map_or(DEFAULT_TUNING, |(_, one_look)| one_look.max(1.0));
    plan.guardrail_baselines = guardrail_baselines(&plan, &history);
    plan.guardrail_units = guardrail_units(&plan, &traffic);
    Ok(plan)
}

/// The quantiles before the start.
fn thresholds(plan: &Plan, history: &UnitHistory) -> BTreeMap<MetricName, f64> {
    let quantiles = plan
        .metrics
        .iter()
        .zip(&history.metrics)
        .filter(|(metric, _)| metric.kind == MetricKind::Quantile);
    quantiles
        .filter_map(|(metric, found)| {
            let histogram = moments::histogram(&found.buckets);
            let interval =
                quantile::interval_of_histogram(&histogram, metric.quantile(), plan.alpha);
            Some((metric.name.clone(), interval.ok()?.estimate))
        })
        .collect()
}

fn baseline(
    plan: &Plan,
    history: &UnitHistory,
    since: Timestamp,
    until: Timestamp,
) -> Option<Baseline> {
    let primary = plan.primary.as_ref()?;
    let place = plan
        .metrics
        .iter()
        .position(|metric| metric.name == *primary)?;
    let found = history.metrics.get(place)?;
    let arm = ratio::arm(&moments::pair(&found.sums).ok()?).ok()?;
    // Of latencies the mean is not what is compared.
    let value = match plan.metrics[place].kind {
        MetricKind::Quantile => *plan.thresholds.get(primary)?,
        _ => arm.value,
    };
    Some(Baseline {
        since: history.since.unwrap_or(since).max(since),
        until,
        units: arm.n,
        mean: value,
        unit_variance: arm.unit_variance,
        distinct_units: history.distinct_units.clone(),
    })
}

fn looks(mode: ReadingMode) -> Looks {
    match mode {
        ReadingMode::Anytime => Looks::Anytime,
        ReadingMode::Planned => Looks::Planned,
        ReadingMode::Hybrid => Looks::Hybrid,
        ReadingMode::Fixed => Looks::Fixed,
    }
}

/// The power with which the primary metric is planned, so that it and every guardrail pass together with the plan's, if each
/// guardrail has as much.
pub(crate) fn power_of_each(plan: &Plan) -> Defined<f64> {
    let guardrails = u32::try_from(plan.guardrails.len()).unwrap_or(u32::MAX);
    means::power_with_guardrails(plan.power, guardrails)
}

/// How many units the plan takes, if the app's traffic can tell, and how many one look at the end would.
fn size(plan: &Plan, traffic: &Traffic<'_>) -> ApiResult<Option<(Size, f64)>> {
    let primary = plan.primary.as_ref().and_then(|name| plan.metric(name));
    let (Some(metric), Some(mde), Some(baseline)) = (primary, plan.mde, &plan.baseline) else {
        return Ok(None);
    };
    if metric.kind == MetricKind::Quantile || baseline.unit_variance <= 0.0 {
        return Ok(None);
    }
    let effect = mde.absolute(baseline.mean);
    if metric.kind == MetricKind::Binary && plan.mode != ReadingMode::Fixed {
        let target = improved(metric, baseline.mean, effect);
        if target <= NEARLY || target >= 1.0 - NEARLY {
            return Err(impossible(metric, baseline.mean, target));
        }
    }
    let comparisons = traffic.arms.len().saturating_sub(1);
    // Shipping takes the primary metric and every guardrail, so that it is planned with more power (S5).
    let Ok(power) = power_of_each(plan) else {
        return Ok(None);
    };
    let rates = ErrorRates {
        alpha: plan.alpha / comparisons.max(1) as f64,
        power,
        two_sided: true,
    };
    let planned = one_look(plan, traffic, |r| {
        control_units(metric, baseline, effect, r, rates)
    });
    let (Ok((fixed_per_arm, total)), Ok(cost)) = (planned, looks(plan.mode).cost(rates)) else {
        return Ok(None);
    };
    if total <= 0.0 {
        return Ok(None);
    }
    // Below the floor nothing is judged, however little the plan takes.
    let smallest_share = traffic.arms.iter().map(share).filter(|share| *share > 0.0);
    let smallest_share = smallest_share.fold(1.0, f64::min);
    let least = (plan.floor as f64 / smallest_share).ceil();
    let largest = (total * cost.largest).ceil().max(least);
    let needs: Vec<(f64, f64)> = traffic
        .arms
        .iter()
        .map(|arm| (share(arm) * traffic.share, largest * share(arm)))
        .filter(|(share, _)| *share > 0.0)
        .collect();
    let (days, days_are_guessed) = days(baseline, &needs, plan.minimum_days);
    let size = Size {
        fixed_per_arm,
        largest,
        expected: (total * cost.expected).ceil().max(least),
        days,
        days_are_guessed,
    };
    Ok(Some((size, total)))
}

/// An arm's share of all units.
fn share(arm: &Arm) -> f64 {
    f64::from(arm.weight) / 10_000.0
}

/// Units for one look at the end, given the control's for an arm of so many times its size: of the largest arm, and of all.
fn one_look(
    plan: &Plan,
    traffic: &Traffic<'_>,
    control_units: impl Fn(f64) -> Defined<f64>,
) -> Defined<(f64, f64)> {
    let control = traffic.arms.iter().find(|arm| arm.name == plan.control);
    let control = control.map(share).filter(|share| *share > 0.0);
    let control = control.ok_or(Undefined::NoData)?;
    let (mut per_arm, mut total): (f64, f64) = (0.0, 0.0);
    for arm in traffic.arms.iter().filter(|arm| arm.name != plan.control) {
        let r = share(arm) / control;
        let units = control_units(r)?;
        per_arm = per_arm.max(units.max(units * r).ceil());
        total = total.max((units / control).ceil());
    }
    Ok((per_arm, total))
}

/// Of each guardrail whose values before the start tell, its mean and the variance of one unit.
fn guardrail_baselines(plan: &Plan, history: &UnitHistory) -> BTreeMap<MetricName, [f64; 2]> {
    let of = |guardrail: &Guardrail| {
        let is_it = |metric: &Metric| metric.name == guardrail.metric;
        let place = plan.metrics.iter().position(is_it)?;
        if plan.metrics[place].kind == MetricKind::Quantile {
            return None;
        }
        let found = history.metrics.get(place)?;
        let arm = ratio::arm(&moments::pair(&found.sums).ok()?).ok()?;
        Some([arm.value, arm.unit_variance])
    };
    let known = plan.guardrails.iter();
    known
        .filter_map(|guardrail| Some((guardrail.metric.clone(), of(guardrail)?)))
        .collect()
}

/// How many units it may take until each of these guardrails is settled: its lower bound at .05 above the margin, with the power
/// of each, where nothing became worse.
fn guardrail_units(plan: &Plan, traffic: &Traffic<'_>) -> BTreeMap<MetricName, f64> {
    let of = |guardrail: &Guardrail| {
        let [mean, unit_variance] = *plan.guardrail_baselines.get(&guardrail.metric)?;
        let margin = guardrail.margin.absolute(mean) / unit_variance.sqrt();
        let metric = plan.metric(&guardrail.metric)?;
        let factor = guardrail.control_factor(metric.direction, mean);
        let rates = ErrorRates {
            alpha: GUARDRAIL_ALPHA,
            power: power_of_each(plan).ok()?,
            two_sided: false,
        };
        // A margin that moves with the control's value is as uncertain as that is.
        let need = |r: f64| {
            let wider = (1.0 + r * factor * factor) / (1.0 + r);
            means::sample_size(margin / wider.sqrt(), r, rates).map(|sizes| sizes.first)
        };
        let (_, total) = one_look(plan, traffic, need).ok()?;
        // Guardrails are looked at at any time, however the primary metric is read.
        let cost = Looks::Anytime.cost(rates).ok()?;
        Some((total * cost.largest).ceil())
    };
    let known = plan.guardrails.iter();
    known
        .filter_map(|guardrail| Some((guardrail.metric.clone(), of(guardrail)?)))
        .filter(|(_, units)| units.is_finite())
        .collect()
}

fn improved(metric: &Metric, mean: f64, effect: f64) -> f64 {
    match metric.direction {
        Direction::Higher => mean + effect,
        Direction::Lower => mean - effect,
    }
}

fn impossible(metric: &Metric, mean: f64, target: f64) -> Problem {
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    let room = match metric.direction {
        Direction::Higher => 1.0 - mean,
        Direction::Lower => mean,
    };
    Problem::invalid(format!(
        "`mde` cannot be reached: `{}` is {} now and would have to become {}",
        metric.name,
        percent(mean),
        percent(target)
    ))
    .hint(format!(
        "there is room for less than {} points: `--mde {}pt` takes half of it, in the API `{{\"absolute\": {}}}`",
        words::trimmed(room * 100.0), words::trimmed(room * 50.0), words::trimmed(room / 2.0)
    ))
}

/// Units of the control for one look at the end. Rates of units with several calls take more, by their design effect.
fn control_units(
    metric: &Metric,
    baseline: &Baseline,
    effect: f64,
    r: f64,
    rates: ErrorRates,
) -> Defined<f64> {
    if metric.kind == MetricKind::Binary {
        let (p1, p2) = (baseline.mean, improved(metric, baseline.mean, effect));
        if p1 > 0.0 && p1 < 1.0 && p2 > 0.0 && p2 < 1.0 {
            let plain = proportions::sample_size(p1, p2, r, rates)?.first;
            return Ok(plain * baseline.unit_variance / (p1 * (1.0 - p1)));
        }
        return Err(Undefined::NoDifference);
    }
    let d = effect / baseline.unit_variance.sqrt();
    Ok(means::sample_size(d, r, rates)?.first)
}

/// Days in full weeks, and whether they are a guess because the history is shorter than that.
fn days(baseline: &Baseline, needs: &[(f64, f64)], minimum: u32) -> (Option<u32>, bool) {
    // Of all units that come so many have a value.
    let all = baseline.distinct_units.last().map_or(0.0, |n| *n as f64);
    let share = match all > 0.0 {
        true => (baseline.units as f64 / all).min(1.0),
        false => 1.0,
    };
    let curve: Vec<f64> = baseline
        .distinct_units
        .iter()
        .map(|n| *n as f64 * share)
        .collect();
    let at_least = |days: u32| days.max(minimum);
    match duration::days(&curve, needs) {
        Ok(days) => (Some(at_least(days)), false),
        Err(_) => {
            let per_day = curve.last().copied().unwrap_or(0.0) / curve.len().max(1) as f64;
            let guess = duration::guessed_days(per_day, needs).ok();
            let days = guess
                .filter(|days| *days <= 3650.0)
                .map(|days| at_least(days as u32));
            (days, true)
        }
    }
}

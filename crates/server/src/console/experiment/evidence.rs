//! What the verdict rests on: checks, every metric, looks by day, arrivals, and what is only a hint.

use std::collections::BTreeMap;

use flywheel_core::experiment::Experiment;
use flywheel_core::plan::{Effect, ReadingMode};
use flywheel_storage::events::Window;
use jiff::Timestamp;

use super::distribution::{self, Distribution};
use super::forest::{self, Empty, ForestRow};
use super::sequence::{self, Sequence};
use super::{amounts, control_value, primary};
use crate::console::chart::{Amount, Chart, Numbers, Point};
use crate::console::show::{self, Markup};
use crate::operations::histograms::ArmHistogram;
use crate::operations::readout::{CheckState, MetricReadout, MetricRole, Readout, words};

/// Days that the charts of arrivals show at most.
const MOST_DAYS: u32 = 92;
const SECONDS_PER_DAY: u32 = 86_400;

/// Everything below the verdict.
pub(super) struct Evidence {
    /// How the primary metric may be read.
    pub(super) read: &'static str,
    pub(super) is_anytime: bool,
    /// What the bars of the differences are.
    pub(super) bars: String,
    pub(super) checks: Vec<CheckLine>,
    /// What is analysed of what was kept.
    pub(super) outcomes: Option<Markup>,
    pub(super) delays: Vec<DelayRow>,
    pub(super) forest: Vec<ForestRow>,
    /// Metrics that cannot be compared yet.
    pub(super) empty: Vec<Empty>,
    pub(super) numbers: Vec<NumberRow>,
    pub(super) sums: Vec<SumRow>,
    pub(super) sequences: Vec<Sequence>,
    pub(super) looks: Vec<LookRow>,
    pub(super) distributions: Vec<Distribution>,
    pub(super) arrivals: Vec<Markup>,
    pub(super) arrivals_by_day: Option<Numbers>,
    pub(super) novelty: Vec<NoveltyRow>,
    pub(super) epochs: Vec<EpochRow>,
    pub(super) segments: Vec<SegmentRow>,
}

/// A check of the data.
pub(super) struct CheckLine {
    pub(super) class: &'static str,
    pub(super) icon: &'static str,
    pub(super) word: &'static str,
    pub(super) name: &'static str,
    pub(super) detail: Markup,
}

/// How long outcomes took in an arm.
pub(super) struct DelayRow {
    pub(super) metric: String,
    pub(super) arm: String,
    pub(super) units: String,
    pub(super) median: String,
    pub(super) p90: String,
    pub(super) later: String,
    pub(super) p: String,
}

/// A comparison in figures.
pub(super) struct NumberRow {
    pub(super) metric: String,
    pub(super) role: &'static str,
    pub(super) arm: String,
    pub(super) control: String,
    pub(super) value: String,
    pub(super) difference: String,
    pub(super) interval: String,
    pub(super) once: String,
    pub(super) relative: String,
    pub(super) standard_error: String,
    pub(super) degrees_of_freedom: String,
    pub(super) units: String,
    pub(super) p: String,
    pub(super) superiority: String,
    pub(super) variance_reduction: String,
    pub(super) method: &'static str,
    pub(super) level: String,
    /// What is to be known beside them, and why a number is missing.
    pub(super) note: String,
}

/// The sums that a value follows from.
pub(super) struct SumRow {
    pub(super) metric: String,
    pub(super) arm: String,
    pub(super) value: String,
    pub(super) once: String,
    pub(super) sums: [String; 9],
}

/// One look at one arm.
pub(super) struct LookRow {
    pub(super) day: String,
    pub(super) arm: String,
    pub(super) units: String,
    pub(super) difference: String,
    pub(super) interval: String,
    pub(super) once: String,
    pub(super) standard_error: String,
    pub(super) degrees_of_freedom: String,
    pub(super) p: String,
}

/// The effect on newcomers and later.
pub(super) struct NoveltyRow {
    pub(super) arm: String,
    pub(super) early: String,
    pub(super) late: String,
    pub(super) p: String,
    pub(super) word: &'static str,
}

/// The primary metric within an epoch.
pub(super) struct EpochRow {
    pub(super) since: String,
    pub(super) arm: String,
    pub(super) units: String,
    pub(super) difference: String,
    pub(super) standard_error: String,
    /// Why a number is missing.
    pub(super) note: String,
}

/// The primary metric among the units with a tag.
pub(super) struct SegmentRow {
    pub(super) segment: Markup,
    pub(super) arm: String,
    pub(super) units: String,
    pub(super) difference: String,
    pub(super) once: String,
    pub(super) p: String,
}

impl Evidence {
    pub(super) fn new(
        experiment: &Experiment,
        readout: &Readout,
        histograms: &[ArmHistogram],
    ) -> Self {
        let plan = &experiment.plan;
        let primary = primary(readout);
        let base = plan.baseline.as_ref().map(|found| found.mean);
        let (forest, empty) = forest::rows(readout, plan.mde, base);
        let effect = plan.mde.and_then(|mde| match mde {
            Effect::Absolute(value) => Some(value),
            Effect::Relative(_) => Some(mde.absolute(base.or_else(|| control_value(readout))?)),
        });
        let (arrivals, arrivals_by_day) = arrivals(experiment, readout);
        let is_anytime = plan.mode == ReadingMode::Anytime;
        Self {
            read: match is_anytime {
                true => "any time",
                false => "any time (primary: as planned)",
            },
            is_anytime,
            bars: bars(readout, is_anytime),
            checks: readout.checks.iter().map(CheckLine::new).collect(),
            outcomes: readout
                .outcomes
                .as_ref()
                .map(|outcomes| show::prose(&outcomes.said)),
            delays: delays(readout),
            forest,
            empty,
            numbers: numbers(readout),
            sums: sums(readout),
            sequences: primary.map_or_else(Vec::new, |primary| {
                sequence::sequences(&primary.metric, &readout.timeline, effect)
            }),
            looks: primary.map_or_else(Vec::new, |primary| looks(primary, readout)),
            distributions: distribution::distributions(readout, histograms),
            arrivals,
            arrivals_by_day,
            novelty: primary.map_or_else(Vec::new, |primary| novelty(primary, readout)),
            epochs: primary.map_or_else(Vec::new, epochs),
            segments: primary.map_or_else(Vec::new, |primary| segments(primary, readout)),
        }
    }
}

impl CheckLine {
    fn new(check: &crate::operations::readout::DataCheck) -> Self {
        let (class, icon, word) = match check.state {
            CheckState::Passed => ("good", "✓", "passed"),
            CheckState::Warning => ("warn", "!", "look twice"),
            CheckState::Failed => ("bad", "✗", "failed"),
            CheckState::Unknown => ("open", "?", "too little to tell"),
        };
        Self {
            class,
            icon,
            word,
            name: check.name,
            detail: show::text(&check.detail),
        }
    }
}

/// The levels of the intervals that are drawn, and when they hold.
fn bars(readout: &Readout, is_anytime: bool) -> String {
    let level = |is_primary: bool| {
        let is_it = |metric: &&MetricReadout| (metric.role == MetricRole::Primary) == is_primary;
        let mut metrics = readout.metrics.iter().filter(is_it);
        let found = metrics.find_map(|metric| metric.comparisons.first())?;
        Some(format!("{}%", amounts::number((1.0 - found.alpha) * 100.0)))
    };
    let hold = "hold however often you look, each for itself";
    match (level(true), level(false)) {
        (Some(primary), Some(others)) if !is_anytime => format!(
            "Bars are {others} intervals that {hold}; that of the primary metric is at {primary}, and holds when the plan reads it."
        ),
        (Some(primary), Some(others)) if primary != others => format!(
            "Bars are {others} intervals, of the primary metric {primary} ones, because arms share its level; they {hold}."
        ),
        (Some(one), _) | (None, Some(one)) => format!("Bars are {one} intervals that {hold}."),
        (None, None) => String::new(),
    }
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| amounts::NONE.to_owned())
}

fn delays(readout: &Readout) -> Vec<DelayRow> {
    let mut rows = Vec::new();
    for found in &readout.delays {
        for arm in &found.arms {
            let later = arm
                .later
                .map(|share| format!("{}%", amounts::number(share * 100.0)));
            rows.push(DelayRow {
                metric: found.metric.to_string(),
                arm: arm.arm.to_string(),
                units: words::count(arm.units as f64),
                median: or_none(arm.median_seconds.map(words::duration)),
                p90: or_none(arm.p90_seconds.map(words::duration)),
                later: later
                    .or_else(|| arm.undefined.clone())
                    .unwrap_or_else(|| "the control".to_owned()),
                p: amounts::p_value(arm.p),
            });
        }
    }
    rows
}

fn numbers(readout: &Readout) -> Vec<NumberRow> {
    let control = readout.arms.iter().find(|arm| arm.is_control);
    let mut rows = Vec::new();
    for metric in &readout.metrics {
        let of = &metric.metric;
        let value = |name: Option<&flywheel_core::name::ArmName>| {
            let found = metric.arms.iter().find(|arm| Some(&arm.arm) == name);
            or_none(found.and_then(|arm| Some(amounts::value(of, arm.value?))))
        };
        for found in &metric.comparisons {
            if found.difference.is_none() {
                continue;
            }
            let percent = |share: f64| format!("{}%", amounts::number(share * 100.0));
            rows.push(NumberRow {
                metric: of.name.to_string(),
                role: forest::role(metric.role),
                arm: found.arm.to_string(),
                control: value(control.map(|control| &control.arm)),
                value: value(Some(&found.arm)),
                difference: or_none(found.difference.map(|d| words::difference(of, d))),
                interval: amounts::interval(of, found.low.zip(found.high)),
                once: amounts::interval(of, found.fixed_low.zip(found.fixed_high)),
                relative: or_none(found.relative.map(percent)),
                standard_error: or_none(found.standard_error.map(amounts::number)),
                degrees_of_freedom: or_none(found.degrees_of_freedom.map(amounts::number)),
                units: words::count(found.units),
                p: amounts::p_value(found.p),
                superiority: or_none(found.superiority.map(|found| {
                    format!(
                        "{} ({} to {})",
                        percent(found.probability),
                        percent(found.low),
                        percent(found.high)
                    )
                })),
                variance_reduction: or_none(found.variance_reduction.map(percent)),
                method: found.method,
                level: percent(1.0 - found.alpha),
                note: found.note.clone().unwrap_or_default(),
            });
        }
    }
    rows
}

fn sums(readout: &Readout) -> Vec<SumRow> {
    let mut rows = Vec::new();
    for metric in &readout.metrics {
        for arm in metric.arms.iter().filter(|arm| arm.sums.n > 0) {
            let sums = arm.sums;
            let ends = arm.low.zip(arm.high);
            let shown = |value| amounts::value(&metric.metric, value);
            rows.push(SumRow {
                metric: metric.metric.name.to_string(),
                arm: arm.arm.to_string(),
                value: or_none(arm.value.map(shown)),
                once: or_none(ends.map(|(low, high)| format!("{} to {}", shown(low), shown(high)))),
                sums: [
                    sums.n.to_string(),
                    sums.capped.to_string(),
                    sums.any.to_string(),
                    sums.not_all.to_string(),
                    exact(sums.x),
                    exact(sums.y),
                    exact(sums.xx),
                    exact(sums.xy),
                    exact(sums.yy),
                ],
            });
        }
    }
    rows
}

/// A sum with the digits that it takes to compute with it.
fn exact(value: f64) -> String {
    let digits = format!("{value:.6}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    match (digits, value) {
        ("0" | "-0", value) if value != 0.0 => format!("{value:.4e}"),
        (digits, _) => digits.to_owned(),
    }
}

fn looks(primary: &MetricReadout, readout: &Readout) -> Vec<LookRow> {
    let of = &primary.metric;
    readout
        .timeline
        .iter()
        .map(|look| LookRow {
            day: look.day.clone(),
            arm: look.arm.to_string(),
            units: words::count(look.units),
            difference: words::difference(of, look.difference),
            interval: match &look.small_counts {
                Some(counts) => counts.clone(),
                None => amounts::interval(of, look.low.zip(look.high)),
            },
            once: amounts::interval(of, look.fixed_low.zip(look.fixed_high)),
            standard_error: or_none(look.standard_error.map(amounts::number)),
            degrees_of_freedom: or_none(look.degrees_of_freedom.map(amounts::number)),
            p: amounts::p_value(look.p),
        })
        .collect()
}

fn novelty(primary: &MetricReadout, readout: &Readout) -> Vec<NoveltyRow> {
    let rows = readout.novelty.iter().map(|found| NoveltyRow {
        arm: found.arm.to_string(),
        early: words::difference(&primary.metric, found.early),
        late: words::difference(&primary.metric, found.late),
        p: amounts::p_value(Some(found.p)),
        word: if found.is_flagged {
            "changes with time"
        } else {
            "no sign of a change"
        },
    });
    rows.collect()
}

fn epochs(primary: &MetricReadout) -> Vec<EpochRow> {
    let mut rows = Vec::new();
    for found in &primary.comparisons {
        for epoch in &found.epochs {
            rows.push(EpochRow {
                since: show::exact(epoch.since),
                arm: found.arm.to_string(),
                units: words::count(epoch.units),
                difference: or_none(
                    epoch
                        .difference
                        .map(|value| words::difference(&primary.metric, value)),
                ),
                standard_error: or_none(epoch.standard_error.map(amounts::number)),
                note: epoch.undefined.clone().unwrap_or_default(),
            });
        }
    }
    rows
}

fn segments(primary: &MetricReadout, readout: &Readout) -> Vec<SegmentRow> {
    let of = &primary.metric;
    let rows = readout.segments.iter().map(|found| SegmentRow {
        segment: show::text_up_to(&found.segment, 80),
        arm: found.arm.to_string(),
        units: words::count(found.units),
        difference: words::difference(of, found.difference),
        once: amounts::interval(of, Some((found.low, found.high))),
        p: amounts::p_value(Some(found.p)),
    });
    rows.collect()
}

/// Units that came by day: a chart for each arm, all on one scale.
fn arrivals(experiment: &Experiment, readout: &Readout) -> (Vec<Markup>, Option<Numbers>) {
    let days: Vec<&String> = readout
        .arms
        .iter()
        .flat_map(|arm| arm.by_day.keys())
        .collect();
    let day_at = |day: &str| format!("{day}T00:00:00Z").parse::<Timestamp>().ok();
    let (Some(first), Some(last)) = (
        days.iter().min().and_then(|day| day_at(day)),
        days.iter().max().and_then(|day| day_at(day)),
    ) else {
        return (Vec::new(), None);
    };
    let apart = (last.as_second() - first.as_second()) / i64::from(SECONDS_PER_DAY);
    let slots = u32::try_from(apart)
        .unwrap_or(0)
        .saturating_add(1)
        .min(MOST_DAYS);
    let back = i64::from(slots - 1) * i64::from(SECONDS_PER_DAY);
    let since = Timestamp::from_second(last.as_second() - back).unwrap_or(first);
    let window = Window {
        since,
        slot_seconds: SECONDS_PER_DAY,
        slots,
    };
    let points = |by_day: &BTreeMap<String, u64>| {
        (0..slots)
            .map(|slot| {
                let day = window.start_of(slot).strftime("%Y-%m-%d").to_string();
                let came = by_day.get(&day).copied().unwrap_or(0);
                Some(Point::plain(came as f64))
            })
            .collect::<Vec<_>>()
    };
    let columns: Vec<_> = readout.arms.iter().map(|arm| points(&arm.by_day)).collect();
    let most = columns
        .iter()
        .flatten()
        .flatten()
        .map(|point| point.value)
        .fold(1.0, f64::max);
    let unit = match experiment.unit {
        flywheel_core::experiment::UnitKind::User => "users",
        flywheel_core::experiment::UnitKind::Session => "sessions",
        flywheel_core::experiment::UnitKind::Request => "requests",
    };
    let charts: Vec<_> = readout
        .arms
        .iter()
        .zip(columns)
        .map(|(arm, points)| Chart {
            title: format!("{}: new {unit} by day", arm.arm),
            amount: Amount::Count,
            window,
            points,
            marks: &[],
            ends: Some((0.0, most)),
            as_bars: true,
        })
        .collect();
    let drawn = charts.iter().map(Chart::draw).collect();
    (drawn, Some(Numbers::of(&charts)))
}

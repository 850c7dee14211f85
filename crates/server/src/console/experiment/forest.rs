//! Every metric's difference with its interval, each on a scale of its own around zero.
//!
//! The strips hold shapes only and are stretched to their place; what is written stands beside them as text, so that it can
//! be read on a phone. Colour says what the interval means, and a word beside it says the same.

use std::fmt::Write as _;

use flywheel_core::metric::{Direction, Metric};
use flywheel_core::plan::Effect;

use super::amounts;
use crate::console::show::{self, Markup};
use crate::operations::readout::{
    Comparison, Finding, GuardrailState, MetricReadout, MetricRole, Readout, circumstances, words,
};

/// The strip's coordinates: zero is in the middle.
const WIDTH: f64 = 200.0;
const MIDDLE: f64 = 100.0;

/// A metric's difference in one arm.
pub(super) struct ForestRow {
    pub(super) metric: String,
    pub(super) role: &'static str,
    /// Which way it improves.
    pub(super) direction: &'static str,
    pub(super) arm: String,
    pub(super) strip: Markup,
    /// The ends of the scale.
    pub(super) ends: (String, String),
    pub(super) difference: String,
    pub(super) interval: String,
    /// What it means, and the colour for it.
    pub(super) word: &'static str,
    pub(super) class: &'static str,
    /// What is to be known beside it, and why there is no interval.
    pub(super) note: Option<Markup>,
}

/// Metrics that cannot be compared, and why.
pub(super) struct Empty {
    pub(super) names: Vec<String>,
    pub(super) why: String,
}

/// All of them: the primary metric first, then the guardrails. Metrics that cannot be compared yet are only named. The smallest
/// effect that matters is relative to what was planned with, if anything was.
pub(super) fn rows(
    readout: &Readout,
    mde: Option<Effect>,
    planned: Option<f64>,
) -> (Vec<ForestRow>, Vec<Empty>) {
    let mut rows = Vec::new();
    let mut empty: Vec<Empty> = Vec::new();
    for metric in &readout.metrics {
        let control = readout.arms.iter().find(|arm| arm.is_control);
        let base = metric
            .arms
            .iter()
            .find(|arm| control.is_some_and(|control| control.arm == arm.arm))
            .and_then(|arm| arm.value);
        let effect = mde
            .filter(|_| metric.role == MetricRole::Primary)
            .zip(planned.or(base))
            .map(|(mde, base)| mde.absolute(base));
        let drawn = metric.comparisons.iter();
        let drawn = drawn.filter(|found| found.difference.is_some() || is_guarded(found));
        let before = rows.len();
        rows.extend(drawn.map(|found| row(metric, found, effect)));
        if rows.len() == before {
            let why = metric
                .comparisons
                .iter()
                .find_map(|found| found.undefined.clone());
            let why = why.unwrap_or_else(|| "there is nothing to compare with".to_owned());
            let name = metric.metric.name.to_string();
            match empty.iter_mut().find(|others| others.why == why) {
                Some(others) => others.names.push(name),
                None => empty.push(Empty {
                    names: vec![name],
                    why,
                }),
            }
        }
    }
    (rows, empty)
}

/// Whether it stands in the way of a promotion, or does not because it holds.
fn is_guarded(found: &Comparison) -> bool {
    !matches!(found.guardrail, None | Some(GuardrailState::Unmeasured))
}

fn row(metric: &MetricReadout, found: &Comparison, effect: Option<f64>) -> ForestRow {
    let of = &metric.metric;
    let margin = metric
        .margin
        .filter(|_| metric.role == MetricRole::Guardrail);
    let interval = found.low.zip(found.high);
    let reach = [
        found.low,
        found.high,
        found.difference,
        margin.map(|margin| margin * 1.2),
        effect.map(|effect| effect * 1.2),
    ];
    let reach = reach
        .into_iter()
        .flatten()
        .map(f64::abs)
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max)
        * 1.05;
    let reach = if reach > 0.0 { reach } else { 1.0 };
    let (word, class) = meaning(found);
    let end = |value: f64| words::difference(of, value);
    ForestRow {
        metric: of.name.to_string(),
        role: role(metric.role),
        direction: match of.direction {
            Direction::Higher => "higher is better",
            Direction::Lower => "lower is better",
        },
        arm: found.arm.to_string(),
        strip: strip(of, found, (margin, effect), reach, class),
        ends: (end(-reach), end(reach)),
        difference: found
            .difference
            .map_or_else(|| amounts::NONE.to_owned(), end),
        interval: interval.map_or_else(String::new, |ends| amounts::interval(of, Some(ends))),
        word,
        class,
        note: note(of, found),
    }
}

fn note(metric: &Metric, found: &Comparison) -> Option<Markup> {
    let Some(counts) = &found.small_counts else {
        let nothing = found.low.is_none().then_some("no interval yet");
        return found.note.as_deref().or(nothing).map(show::prose);
    };
    // What the counts say in full stands with the numbers.
    let mut notes = vec![counts.brief.clone()];
    notes.extend(circumstances(metric, found));
    Some(show::prose(&notes.join("; ")))
}

pub(super) fn role(role: MetricRole) -> &'static str {
    match role {
        MetricRole::Primary => "primary",
        MetricRole::Guardrail => "guardrail",
        MetricRole::Other => "shown",
    }
}

/// A word for what is known, and the class of its colour. A guardrail's state comes before better and worse, because it is
/// what decides.
pub(super) fn meaning(found: &Comparison) -> (&'static str, &'static str) {
    match (found.guardrail, found.finding) {
        (Some(GuardrailState::Violated), _) => ("violated", "bad"),
        (Some(GuardrailState::Holds), Finding::Worse) => ("holds, but worse", "good"),
        (Some(GuardrailState::Holds), _) => ("holds", "good"),
        (Some(GuardrailState::Unmeasured), _) => ("not measured", "open"),
        (Some(GuardrailState::Open), _) => ("not settled", "open"),
        (None, Finding::Better) => ("better", "good"),
        (None, Finding::Worse) => ("worse", "bad"),
        (None, Finding::Open) => ("open", "open"),
    }
}

fn strip(
    metric: &Metric,
    found: &Comparison,
    (margin, effect): (Option<f64>, Option<f64>),
    reach: f64,
    class: &str,
) -> Markup {
    let x = |value: f64| (MIDDLE + value / reach * MIDDLE).clamp(0.0, WIDTH);
    let mut svg = String::from(
        "<svg class=\"strip\" viewBox=\"0 0 200 24\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut bar = |class: &str, (from, to): (f64, f64), (top, height): (f64, f64), title: &str| {
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{from:.2}\" y=\"{top}\" width=\"{:.2}\" height=\"{height}\"><title>{}</title></rect>",
            (to - from).max(0.0),
            show::text(title)
        );
    };
    let tick = |at: f64| (x(at) - 0.5, x(at) + 0.5);
    bar("scale", (0.0, WIDTH), (11.5, 1.0), "");
    if let Some(margin) = margin {
        let (at, beyond) = match metric.direction {
            Direction::Higher => (-margin, (0.0, x(-margin))),
            Direction::Lower => (margin, (x(margin), WIDTH)),
        };
        let said = format!("margin: {}", words::difference(metric, at));
        bar("beyond", beyond, (3.0, 18.0), &said);
        bar("margin", tick(at), (3.0, 18.0), &said);
    }
    for at in effect.into_iter().flat_map(|effect| [-effect, effect]) {
        let said = format!(
            "smallest effect that matters: {}",
            words::difference(metric, at)
        );
        bar("effect", tick(at), (5.0, 14.0), &said);
    }
    bar(
        "zero",
        (MIDDLE - 0.3, MIDDLE + 0.3),
        (0.0, 24.0),
        "no difference",
    );
    if let Some((low, high)) = found.low.zip(found.high) {
        let said = format!(
            "{}, {} units",
            amounts::interval(metric, Some((low, high))),
            words::count(found.units)
        );
        let ends = (x(low.min(high)), x(high.max(low)));
        bar(&format!("reach {class}"), ends, (8.0, 8.0), &said);
    }
    if let Some(at) = found.difference {
        let said = format!("difference: {}", words::difference(metric, at));
        bar("value", (x(at) - 0.6, x(at) + 0.6), (4.0, 16.0), &said);
    }
    svg.push_str("</svg>");
    Markup(svg)
}

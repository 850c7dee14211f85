//! The primary metric's difference day by day: the interval that may be looked at every day, and the one for a single look.

use flywheel_core::metric::Metric;

use super::amounts;
use crate::console::plot::{Axis, Layer, Plot, Slot, round_ticks};
use crate::console::show::Markup;
use crate::operations::readout::{Look, words};

/// The looks at one arm.
pub(super) struct Sequence {
    pub(super) plot: Markup,
    /// What looking every day came to, in a sentence.
    pub(super) lesson: String,
}

/// One plot for each arm that is compared with the control.
pub(super) fn sequences(metric: &Metric, looks: &[Look], effect: Option<f64>) -> Vec<Sequence> {
    let mut arms: Vec<_> = looks.iter().map(|look| look.arm.clone()).collect();
    arms.dedup();
    arms.iter()
        .filter_map(|arm| {
            let has_interval = |look: &&Look| look.small_counts.is_none();
            let looks = looks.iter().filter(|look| look.arm == *arm);
            let looks: Vec<&Look> = looks.filter(has_interval).collect();
            // Small counts have no interval to draw.
            (!looks.is_empty()).then(|| Sequence {
                plot: plot(metric, &looks, effect).draw(),
                lesson: lesson(&looks),
            })
        })
        .collect()
}

fn plot(metric: &Metric, looks: &[&Look], effect: Option<f64>) -> Plot {
    let shown = |value: f64| amounts::scaled(metric, value);
    let place = |index: usize| index as f64 + 0.5;
    let both = |low: Option<f64>, high: Option<f64>| Some((shown(low?), shown(high?)));
    let limits = limits(looks, effect);
    let (low, high) = (shown(limits.0), shown(limits.1));
    let line = |of: fn(&Look) -> Option<f64>| {
        looks
            .iter()
            .enumerate()
            .map(|(index, look)| (place(index), of(look).map(shown)))
            .collect::<Vec<_>>()
    };
    let band = looks
        .iter()
        .enumerate()
        .map(|(index, look)| (place(index), both(look.low, look.high)));
    let mut layers = vec![
        Layer::Band("band", band.collect()),
        Layer::Level("zero", 0.0),
    ];
    for effect in effect.into_iter().flat_map(|effect| [-effect, effect]) {
        layers.push(Layer::Level("effect", shown(effect)));
    }
    layers.extend([
        Layer::Line("once", line(|look| look.fixed_low)),
        Layer::Line("once", line(|look| look.fixed_high)),
        Layer::Line("line", line(|look| Some(look.difference))),
        Layer::Dots(
            looks
                .iter()
                .enumerate()
                .map(|(index, look)| (place(index), shown(look.difference)))
                .collect(),
        ),
    ]);
    let arm = looks
        .first()
        .map_or_else(String::new, |look| look.arm.to_string());
    let last = looks
        .last()
        .map_or_else(String::new, |look| reading(metric, look));
    Plot {
        title: format!("{}: {arm} less the control", metric.name),
        summary: format!(
            "{}, {arm} less the control, by day; last {last}",
            metric.name
        ),
        x: Axis {
            label: "end of the day (UTC)".to_owned(),
            low: 0.0,
            high: looks.len().max(1) as f64,
            ticks: looks
                .iter()
                .enumerate()
                .map(|(index, look)| (place(index), month_and_day(&look.day)))
                .collect(),
        },
        y: Axis {
            label: amounts::unit_of_differences(metric),
            low,
            high,
            ticks: round_ticks(low, high, 5)
                .into_iter()
                .map(|value| (value, signed(value)))
                .collect(),
        },
        layers,
        slots: looks
            .iter()
            .enumerate()
            .map(|(index, look)| Slot {
                from: index as f64,
                to: index as f64 + 1.0,
                text: format!("{}: {}", look.day, reading(metric, look)),
            })
            .collect(),
    }
}

fn signed(value: f64) -> String {
    let text = amounts::number(value);
    if value > 0.0 {
        format!("+{text}")
    } else {
        text
    }
}

/// `07-31` of `2026-07-31`.
fn month_and_day(day: &str) -> String {
    day.get(5..).unwrap_or(day).to_owned()
}

/// The scale: all differences and single looks fit, and the last interval; the wide ones of the first days are cut off.
fn limits(looks: &[&Look], effect: Option<f64>) -> (f64, f64) {
    let last = looks
        .last()
        .into_iter()
        .flat_map(|look| [look.low, look.high]);
    let values = looks
        .iter()
        .flat_map(|look| [look.fixed_low, look.fixed_high, Some(look.difference)])
        .chain(last)
        .chain([Some(0.0), effect, effect.map(|effect| -effect)])
        .flatten()
        .filter(|value| value.is_finite());
    let (low, high) = values.fold((0.0_f64, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let room = ((high - low) * 0.08).max(f64::MIN_POSITIVE);
    if high - low > 0.0 {
        (low - room, high + room)
    } else {
        (-1.0, 1.0)
    }
}

fn reading(metric: &Metric, look: &Look) -> String {
    format!(
        "{} ({}); for one look {}; {} units",
        words::difference(metric, look.difference),
        amounts::interval(metric, look.low.zip(look.high)),
        amounts::interval(metric, look.fixed_low.zip(look.fixed_high)),
        words::count(look.units)
    )
}

/// On how many days each interval left zero out.
fn lesson(looks: &[&Look]) -> String {
    let leaves_out_zero = |low: Option<f64>, high: Option<f64>| {
        low.zip(high)
            .is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    };
    let count = |of: &dyn Fn(&Look) -> bool| looks.iter().filter(|look| of(look)).count();
    let once = count(&|look| leaves_out_zero(look.fixed_low, look.fixed_high));
    let always = count(&|look| leaves_out_zero(look.low, look.high));
    format!(
        "Of {}, the interval for one look left out zero on {once}, the band on {always}. Whoever looks every day and stops at the first such day must go by the band: it covers the true difference on all days together as often as the plan says, the thin lines on one day only.",
        words::plural(looks.len() as u64, "day")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_core::metric::starter_set;

    fn look(day: &str, difference: f64, reach: f64) -> Look {
        Look {
            day: day.to_owned(),
            arm: "b".parse().unwrap(),
            units: 1000.0,
            difference,
            standard_error: Some(reach / 2.0),
            degrees_of_freedom: None,
            small_counts: None,
            low: Some(difference - 2.0 * reach),
            high: Some(difference + 2.0 * reach),
            fixed_low: Some(difference - reach),
            fixed_high: Some(difference + reach),
            p: Some(0.2),
        }
    }

    #[test]
    fn days_without_zero_are_counted_and_all_that_matters_fits() {
        let metrics = starter_set();
        let looks = [
            look("2026-07-01", 0.01, 0.2),
            look("2026-07-02", 0.05, 0.04),
            look("2026-07-03", 0.05, 0.02),
        ];
        let drawn = sequences(&metrics[0], &looks, Some(0.05));
        assert_eq!(drawn.len(), 1);
        assert!(drawn[0].lesson.starts_with(
            "Of 3 days, the interval for one look left out zero on 2, the band on 1."
        ));
        let plot = &drawn[0].plot.0;
        assert!(plot.contains(">+20</text>"), "{plot}");
        assert!(
            plot.contains("<title>2026-07-03: +5 points (+1 to +9); for one look +3 to +7; 1,000 units</title>"),
            "{plot}"
        );
        assert!(!plot.contains("NaN"));
    }
}

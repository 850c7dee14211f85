//! How values are distributed: each arm's share of them by range, over the control's.
//!
//! Histograms are kept in ranges much finer than can be seen. They are put together into some twenty here, the same for all
//! arms; what lies beyond the ends is counted in the first and in the last.

use flywheel_core::metric::{Direction, Metric};
use flywheel_core::name::ArmName;

use super::amounts;
use crate::console::plot::{Axis, Layer, Plot, Slot, round_ticks};
use crate::console::show::Markup;
use crate::operations::histograms::{self, ArmHistogram, Bucket, Distributed};
use crate::operations::readout::{Readout, words};

/// Ranges that a plot shows, about.
const RANGES: usize = 24;
/// The share of values below the first and above the last range that is cut off.
const CUT: f64 = 0.005;

/// The distributions of one metric, with the numbers behind them.
pub(super) struct Distribution {
    pub(super) metric: String,
    pub(super) of: String,
    /// One for each arm but the control.
    pub(super) plots: Vec<Markup>,
    pub(super) arms: Vec<String>,
    pub(super) rows: Vec<RangeRow>,
}

/// A range with each arm's count and share.
pub(super) struct RangeRow {
    pub(super) range: String,
    pub(super) arms: Vec<String>,
}

/// How the axis goes: even steps of a value, or of its logarithm.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    step: f64,
    ranges: usize,
    is_log: bool,
}

impl Scale {
    /// For grades, halves; for totals that are small, whole numbers; otherwise steps that grow by the same factor.
    fn of(metric: &Metric, of: Distributed, all: &[Bucket]) -> Option<Self> {
        if of == Distributed::UnitMeans {
            let scale = metric.rating_scale();
            let step = (scale.max - scale.min) / 8.0;
            return Some(Self {
                low: scale.min - step / 2.0,
                step,
                ranges: 9,
                is_log: false,
            });
        }
        let (low, high) = (quantile(all, CUT)?, quantile(all, 1.0 - CUT)?);
        if of == Distributed::UnitTotals && high < RANGES as f64 {
            return Some(Self {
                low: -0.5,
                step: 1.0,
                ranges: high.round() as usize + 1,
                is_log: false,
            });
        }
        // Nothing and next to nothing share the lowest range.
        let low = low.max(high / 1e6).max(f64::MIN_POSITIVE);
        let high = high.max(low * 1.1);
        Some(Self {
            low: low.ln(),
            step: (high / low).ln() / RANGES as f64,
            ranges: RANGES,
            is_log: true,
        })
    }

    fn place(&self, value: f64) -> usize {
        let value = if self.is_log {
            value.max(f64::MIN_POSITIVE).ln()
        } else {
            value
        };
        let place = ((value - self.low) / self.step).floor().max(0.0);
        (place as usize).min(self.ranges - 1)
    }

    fn edge(&self, place: usize) -> f64 {
        self.low + self.step * place as f64
    }

    fn value_at(&self, place: usize) -> f64 {
        let edge = self.edge(place);
        if self.is_log { edge.exp() } else { edge }
    }

    fn ticks(&self, shown: impl Fn(f64) -> String) -> Vec<(f64, String)> {
        let (low, high) = (self.edge(0), self.edge(self.ranges));
        if !self.is_log {
            let ticks = round_ticks(low, high, 5).into_iter();
            return ticks.map(|value| (value, shown(value))).collect();
        }
        let powers = (low / std::f64::consts::LN_10).floor() as i32
            ..=(high / std::f64::consts::LN_10).ceil() as i32;
        let digits: &[f64] = match high - low {
            ..3.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
            _ => &[1.0, 2.0, 5.0],
        };
        powers
            .flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
            .filter(|value| (low..=high).contains(&value.ln()))
            .map(|value| (value.ln(), shown(value)))
            .collect()
    }
}

fn middle(bucket: &Bucket) -> f64 {
    0.5 * (bucket.low + bucket.high)
}

/// The value that a share of all lies below.
fn quantile(buckets: &[Bucket], share: f64) -> Option<f64> {
    let mut sorted: Vec<&Bucket> = buckets.iter().collect();
    sorted.sort_by(|one, other| one.low.total_cmp(&other.low));
    let all: u64 = sorted.iter().map(|bucket| bucket.count).sum();
    let mut left = all as f64 * share;
    for bucket in &sorted {
        left -= bucket.count as f64;
        if left <= 0.0 {
            return Some(middle(bucket));
        }
    }
    sorted.last().map(|bucket| middle(bucket))
}

/// An arm's counts by range.
struct Counted<'a> {
    arm: &'a ArmName,
    is_control: bool,
    counts: Vec<u64>,
    all: u64,
}

impl Counted<'_> {
    /// In percent.
    fn share(&self, place: usize) -> f64 {
        100.0 * self.counts[place] as f64 / (self.all as f64).max(1.0)
    }

    /// The outline of the bars.
    fn outline(&self, scale: &Scale) -> Vec<(f64, f64)> {
        let corners = (0..scale.ranges).flat_map(|place| {
            let share = self.share(place);
            [(scale.edge(place), share), (scale.edge(place + 1), share)]
        });
        corners.collect()
    }
}

/// Every metric of which more than sums is kept.
pub(super) fn distributions(readout: &Readout, histograms: &[ArmHistogram]) -> Vec<Distribution> {
    let kinds = [
        Distributed::Calls,
        Distributed::UnitMeans,
        Distributed::UnitTotals,
    ];
    let mut found = Vec::new();
    for metric in &readout.metrics {
        for of in kinds {
            found.extend(distribution(readout, histograms, &metric.metric, of));
        }
    }
    found
}

fn distribution(
    readout: &Readout,
    histograms: &[ArmHistogram],
    metric: &Metric,
    of: Distributed,
) -> Option<Distribution> {
    let by_arm = histograms::by_arm(histograms, &metric.name, of);
    let all: Vec<Bucket> = by_arm.values().flatten().copied().collect();
    if all.is_empty() {
        return None;
    }
    let scale = Scale::of(metric, of, &all)?;
    // In the order of the arms, the control among them.
    let arms: Vec<Counted<'_>> = readout
        .arms
        .iter()
        .map(|arm| {
            let mut counts = vec![0; scale.ranges];
            for bucket in by_arm.get(&arm.arm).into_iter().flatten() {
                counts[scale.place(middle(bucket))] += bucket.count;
            }
            Counted {
                arm: &arm.arm,
                is_control: arm.is_control,
                all: counts.iter().sum(),
                counts,
            }
        })
        .collect();
    let control = arms.iter().find(|arm| arm.is_control)?;
    let what = what(of);
    let plots = arms
        .iter()
        .filter(|arm| !arm.is_control)
        .map(|arm| plot(metric, &scale, (control, arm), &what).draw())
        .collect();
    let cell = |arm: &Counted<'_>, place: usize| {
        let share = amounts::number(arm.share(place));
        format!("{} ({share}%)", words::count(arm.counts[place] as f64))
    };
    let rows = (0..scale.ranges).map(|place| RangeRow {
        range: range(metric, &scale, place),
        arms: arms.iter().map(|arm| cell(arm, place)).collect(),
    });
    Some(Distribution {
        metric: metric.name.to_string(),
        rows: rows.collect(),
        arms: arms.iter().map(|arm| arm.arm.to_string()).collect(),
        of: what,
        plots,
    })
}

fn what(of: Distributed) -> String {
    match of {
        Distributed::Calls => "calls",
        Distributed::UnitMeans => "units by their mean",
        Distributed::UnitTotals => "units by their total",
        Distributed::UnitDelays => "units by the mean delay of their outcomes",
    }
    .to_owned()
}

/// A range in words: the ends are open, because what lies beyond them is counted there.
fn range(metric: &Metric, scale: &Scale, place: usize) -> String {
    let shown = |value: f64| amounts::number(value);
    let (low, high) = (scale.value_at(place), scale.value_at(place + 1));
    let text = if !scale.is_log {
        let (centre, is_last) = (0.5 * (low + high), place + 1 == scale.ranges);
        match is_last && scale.low < 0.0 {
            true => format!("{} and more", shown(centre)),
            false => format!("about {}", shown(centre)),
        }
    } else if place == 0 {
        format!("below {}", shown(high))
    } else if place + 1 == scale.ranges {
        format!("{} and more", shown(low))
    } else {
        format!("{} to {}", shown(low), shown(high))
    };
    match metric.unit.as_str() {
        "" => text,
        unit => format!("{text} {unit}"),
    }
}

fn plot(
    metric: &Metric,
    scale: &Scale,
    (control, arm): (&Counted<'_>, &Counted<'_>),
    what: &str,
) -> Plot {
    let highest = (0..scale.ranges)
        .flat_map(|place| [control.share(place), arm.share(place)])
        .fold(1.0, f64::max);
    let filled = control.outline(scale).into_iter();
    let mut line = arm.outline(scale);
    // The outline stands on the axis at both ends.
    line.insert(0, (scale.edge(0), 0.0));
    line.push((scale.edge(scale.ranges), 0.0));
    let direction = match metric.direction {
        Direction::Higher => "higher is better",
        Direction::Lower => "lower is better",
    };
    let of_arm = |arm: &Counted<'_>| format!("{} ({})", arm.arm, words::count(arm.all as f64));
    let names = format!("{} over {}", of_arm(arm), of_arm(control));
    Plot {
        title: format!("{}, {what}: {names}", metric.name),
        summary: format!(
            "{}, the share of {what} in each range, {names}; {direction}",
            metric.name
        ),
        x: Axis {
            label: match metric.unit.as_str() {
                "" => direction.to_owned(),
                unit => format!("{unit}, {direction}"),
            },
            low: scale.edge(0),
            high: scale.edge(scale.ranges),
            ticks: scale.ticks(amounts::number),
        },
        y: Axis {
            label: format!("% of {what}"),
            low: 0.0,
            high: highest * 1.08,
            ticks: round_ticks(0.0, highest * 1.08, 4)
                .into_iter()
                .map(|value| (value, amounts::number(value)))
                .collect(),
        },
        layers: vec![
            Layer::Band(
                "bar",
                filled.map(|(at, share)| (at, Some((0.0, share)))).collect(),
            ),
            Layer::Line(
                "line",
                line.into_iter()
                    .map(|(at, share)| (at, Some(share)))
                    .collect(),
            ),
        ],
        slots: (0..scale.ranges)
            .map(|place| Slot {
                from: scale.edge(place),
                to: scale.edge(place + 1),
                text: format!(
                    "{}: {} {}%, {} {}%",
                    range(metric, scale, place),
                    arm.arm,
                    amounts::number(arm.share(place)),
                    control.arm,
                    amounts::number(control.share(place))
                ),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_core::metric::starter_set;

    fn bucket(value: f64, count: u64) -> Bucket {
        Bucket {
            low: value,
            high: value,
            count,
        }
    }

    #[test]
    fn ranges_hold_every_value_and_no_value_twice() {
        let metrics = starter_set();
        let latency = metrics
            .iter()
            .find(|m| m.name.as_str() == "latency_p95")
            .unwrap();
        let rating = metrics
            .iter()
            .find(|m| m.name.as_str() == "rating")
            .unwrap();
        let all: Vec<Bucket> = (0..=2000).map(|step| bucket(f64::from(step), 1)).collect();
        let scale = Scale::of(latency, Distributed::Calls, &all).unwrap();
        assert_eq!((scale.place(0.0), scale.place(1e9)), (0, scale.ranges - 1));
        for place in 1..scale.ranges {
            let edge = scale.value_at(place);
            assert!(
                scale.place(edge * 0.999) < scale.place(edge * 1.001),
                "{place}"
            );
        }
        let grades = Scale::of(rating, Distributed::UnitMeans, &all).unwrap();
        assert_eq!(
            (grades.place(1.0), grades.place(3.0), grades.place(5.0)),
            (0, 4, 8)
        );
        let few = [bucket(0.0, 9), bucket(1.0, 5), bucket(3.0, 1)];
        let totals = Scale::of(rating, Distributed::UnitTotals, &few).unwrap();
        assert_eq!(
            (totals.ranges, totals.place(0.0), totals.place(3.0)),
            (4, 0, 3)
        );
        assert_eq!(quantile(&few, 0.5), Some(0.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn shares_are_of_the_arm_and_are_drawn_to_their_size() {
        let metrics = starter_set();
        let rating = metrics
            .iter()
            .find(|m| m.name.as_str() == "rating")
            .unwrap();
        let scale = Scale::of(rating, Distributed::UnitMeans, &[]).unwrap();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let arm = |arm, counts: [u64; 9]| Counted {
            arm,
            is_control: false,
            all: counts.iter().sum(),
            counts: counts.to_vec(),
        };
        let control = arm(&a, [0, 0, 0, 0, 5, 0, 0, 0, 5]);
        let other = arm(&b, [0, 0, 0, 0, 10, 0, 0, 0, 30]);
        assert_eq!(other.share(8), 75.0);
        let drawn = plot(rating, &scale, (&control, &other), "units").draw().0;
        assert!(
            drawn.contains("<title>about 5: b 75%, a 50%</title>"),
            "{drawn}"
        );
        assert!(drawn.contains("b (40) over a (10)"), "{drawn}");
        assert!(!drawn.contains("NaN"));
    }
}

//! Small charts as SVG: axes with their units, interval bands, marks for what changed, a tooltip for each slot, and a table
//! of the same numbers behind them.

use std::fmt::Write as _;

use flywheel_storage::events::Window;

use super::show::{self, Markup, count};

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 84.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 6.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 16.0;

/// How values of a chart are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Count,
    Percent,
    Microseconds,
    NanoDollars,
    Score,
}

impl Amount {
    fn show(self, value: f64) -> String {
        match self {
            Self::Count => count(value.round() as u64),
            Self::Percent => show::percent(value),
            Self::Microseconds => show::latency(value.round() as u64),
            // Beside an axis there is room for eight letters.
            Self::NanoDollars => match show::dollars(value.round() as i64) {
                long if long.len() > 8 => format!("${:.0e}", value / 1e9),
                short => short,
            },
            Self::Score => format!("{value:.2}"),
        }
    }
}

/// A value with its interval, where it has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) value: f64,
    pub(super) interval: Option<(f64, f64)>,
}

impl Point {
    pub(super) fn plain(value: f64) -> Self {
        Self {
            value,
            interval: None,
        }
    }
}

/// Something that changed, at a place between 0 and 1 of the window.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) place: f64,
    pub(super) text: String,
}

/// A chart over a window of time.
pub(super) struct Chart<'a> {
    pub(super) title: String,
    pub(super) amount: Amount,
    pub(super) window: Window,
    /// One for each slot.
    pub(super) points: Vec<Option<Point>>,
    pub(super) marks: &'a [Mark],
    /// The ends of the scale, where they are not zero and the largest value.
    pub(super) ends: Option<(f64, f64)>,
    pub(super) as_bars: bool,
}

impl Chart<'_> {
    /// The chart as a figure.
    pub(super) fn draw(&self) -> Markup {
        let (low, high) = self.ends.unwrap_or_else(|| (0.0, self.largest()));
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            show::text(&self.summary())
        );
        for (value, anchor) in [(low, HEIGHT - BOTTOM), (high, TOP + 7.0)] {
            let _ = write!(
                svg,
                "<text class=\"axis\" x=\"{}\" y=\"{anchor:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 4.0,
                self.amount.show(value)
            );
        }
        let base = HEIGHT - BOTTOM;
        let _ = write!(
            svg,
            "<path class=\"rule\" d=\"M{LEFT} {TOP}V{base}H{}\"/>",
            WIDTH - RIGHT
        );
        let slots = self.window.slots;
        for (slot, anchor) in [(0, "start"), (slots, "end")] {
            let at = show::clock(self.window.start_of(slot), self.window.slot_seconds);
            let _ = write!(
                svg,
                "<text class=\"axis\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{at}</text>",
                self.x(f64::from(slot)),
                HEIGHT - 3.0
            );
        }
        for mark in self.marks {
            let x = LEFT + mark.place.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
            let _ = write!(
                svg,
                "<path class=\"mark\" d=\"M{x:.1} {TOP}V{base}\"><title>{}</title></path>",
                show::text(&mark.text)
            );
        }
        let y = |value: f64| {
            let share = (value - low) / (high - low).max(f64::MIN_POSITIVE);
            base - share.clamp(0.0, 1.0) * (base - TOP)
        };
        if self.as_bars {
            self.bars(&mut svg, base, y);
        } else {
            self.lines(&mut svg, y);
        }
        for (slot, point) in self.points.iter().enumerate() {
            let (from, to) = (self.x(slot as f64), self.x(slot as f64 + 1.0));
            let _ = write!(
                svg,
                "<rect class=\"slot\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {}</title></rect>",
                to - from,
                base - TOP,
                self.slot_name(slot),
                self.reading(point.as_ref())
            );
        }
        svg.push_str("</svg>");
        Markup(format!(
            "<figure class=\"chart\"><figcaption>{}</figcaption>{svg}</figure>",
            show::text(&self.title)
        ))
    }

    /// The same numbers, for a table with one row for each slot.
    pub(super) fn column(&self) -> (String, Vec<String>) {
        let readings = self.points.iter().map(|point| self.reading(point.as_ref()));
        (self.title.clone(), readings.collect())
    }

    fn slot_name(&self, slot: usize) -> String {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        show::clock(self.window.start_of(slot), self.window.slot_seconds)
    }

    fn reading(&self, point: Option<&Point>) -> String {
        match point {
            None => "–".to_owned(),
            Some(point) => match point.interval {
                Some((low, high)) => format!(
                    "{} ({} to {})",
                    self.amount.show(point.value),
                    self.amount.show(low),
                    self.amount.show(high)
                ),
                None => self.amount.show(point.value),
            },
        }
    }

    fn summary(&self) -> String {
        let mut values = self.points.iter().flatten().map(|point| point.value);
        match values.next_back() {
            Some(last) => format!("{}; last {}", self.title, self.amount.show(last)),
            None => format!("{}; no data", self.title),
        }
    }

    fn largest(&self) -> f64 {
        let tops = self.points.iter().flatten().map(|point| {
            let upper = point.interval.map_or(point.value, |(_, high)| high);
            upper.max(point.value)
        });
        let least = match self.amount {
            Amount::Percent => 0.01,
            _ => 1.0,
        };
        tops.fold(least, f64::max)
    }

    fn x(&self, slot: f64) -> f64 {
        let slots = f64::from(self.window.slots.max(1));
        LEFT + slot / slots * (WIDTH - LEFT - RIGHT)
    }

    fn bars(&self, svg: &mut String, base: f64, y: impl Fn(f64) -> f64) {
        for (slot, point) in self.points.iter().enumerate() {
            let Some(point) = point.filter(|point| point.value > 0.0) else {
                continue;
            };
            let (from, to) = (self.x(slot as f64), self.x(slot as f64 + 1.0));
            // Something is never drawn as nothing.
            let top = y(point.value).min(base - 1.0);
            let _ = write!(
                svg,
                "<rect class=\"bar\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                from + 0.5,
                (to - from - 1.0).max(0.5),
                base - top
            );
        }
    }

    /// A line with its band; it is broken where there is no value.
    fn lines(&self, svg: &mut String, y: impl Fn(f64) -> f64) {
        let mut stretches: Vec<Vec<(f64, Point)>> = vec![Vec::new()];
        for (slot, point) in self.points.iter().enumerate() {
            match (point, stretches.last_mut()) {
                (Some(point), Some(stretch)) => {
                    stretch.push((self.x(slot as f64 + 0.5), *point));
                }
                (None, Some(stretch)) if !stretch.is_empty() => stretches.push(Vec::new()),
                _ => {}
            }
        }
        for stretch in stretches.iter().filter(|stretch| !stretch.is_empty()) {
            let interval = |point: &Point| point.interval.unwrap_or((point.value, point.value));
            if stretch.iter().any(|(_, point)| point.interval.is_some()) {
                let upper = stretch.iter().map(|(x, point)| (*x, interval(point).1));
                let lower = stretch
                    .iter()
                    .rev()
                    .map(|(x, point)| (*x, interval(point).0));
                let corners: Vec<_> = upper
                    .chain(lower)
                    .map(|(x, value)| format!("{x:.1},{:.1}", y(value)))
                    .collect();
                let _ = write!(
                    svg,
                    "<polygon class=\"band\" points=\"{}\"/>",
                    corners.join(" ")
                );
            }
            let corners: Vec<_> = stretch
                .iter()
                .map(|(x, point)| format!("{x:.1},{:.1}", y(point.value)))
                .collect();
            let _ = write!(
                svg,
                "<polyline class=\"line\" points=\"{}\"/>",
                corners.join(" ")
            );
            for (x, point) in stretch {
                let _ = write!(
                    svg,
                    "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"1.6\"/>",
                    y(point.value)
                );
            }
        }
    }
}

/// The numbers of several charts over one window, slot by slot.
pub(super) struct Numbers {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<(String, Vec<String>)>,
}

impl Numbers {
    pub(super) fn of(charts: &[Chart<'_>]) -> Self {
        let (names, columns): (Vec<_>, Vec<_>) = charts.iter().map(Chart::column).unzip();
        let slots = charts.first().map_or(0, |chart| chart.points.len());
        let rows = (0..slots).map(|slot| {
            let name = charts[0].slot_name(slot);
            let values = columns.iter().map(|column| column[slot].clone());
            (name, values.collect())
        });
        Self {
            names,
            rows: rows.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn chart(points: Vec<Option<Point>>, as_bars: bool) -> String {
        let window = Window {
            since: Timestamp::UNIX_EPOCH,
            slot_seconds: 3600,
            slots: 3,
        };
        let marks = [Mark {
            place: 0.5,
            text: "deployed <b>".to_owned(),
        }];
        Chart {
            title: "Calls".to_owned(),
            amount: Amount::Count,
            window,
            points,
            marks: &marks,
            ends: None,
            as_bars,
        }
        .draw()
        .0
    }

    #[test]
    fn a_line_breaks_where_there_is_nothing() {
        let point = |value| Some(Point::plain(value));
        let svg = chart(vec![point(1.0), None, point(1200.0)], false);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("<title>Jan 1 02:00: 1,200</title>"), "{svg}");
        assert!(svg.contains("<title>Jan 1 01:00: –</title>"), "{svg}");
        assert!(svg.contains("deployed &lt;b&gt;"), "{svg}");
        assert!(svg.contains("aria-label=\"Calls; last 1,200\""), "{svg}");
    }

    #[test]
    fn nothing_at_all_is_drawn_too() {
        let svg = chart(vec![None, None, None], true);
        assert!(svg.contains("Calls; no data"), "{svg}");
        assert!(!svg.contains("class=\"bar\""), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}

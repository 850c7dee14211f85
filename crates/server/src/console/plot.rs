//! Plots over two axes as SVG: bands, lines, levels and places, ticks at round numbers, a tooltip for each slot.
//!
//! Text in an SVG shrinks with it. Each plot is therefore drawn twice, for a screen and for a phone, and the stylesheet shows
//! one of them.

use std::fmt::Write as _;

use super::show::{self, Markup};

const LEFT: f64 = 56.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 34.0;
/// How wide something is drawn that has no neighbour to be joined with.
const LONE: f64 = 14.0;

/// One axis.
pub(super) struct Axis {
    /// What it measures, with the unit.
    pub(super) label: String,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Where something is written.
    pub(super) ticks: Vec<(f64, String)>,
}

/// Something that is drawn, those that come first below those that come later. The class gives it its meaning.
pub(super) enum Layer {
    /// From a lower to an upper end; broken where either is missing.
    Band(&'static str, Vec<(f64, Option<(f64, f64)>)>),
    /// Broken where there is no value.
    Line(&'static str, Vec<(f64, Option<f64>)>),
    Dots(Vec<(f64, f64)>),
    /// A value of the vertical axis.
    Level(&'static str, f64),
    /// A value of the horizontal axis.
    Place(&'static str, f64),
}

/// What a part of the horizontal axis says when it is pointed at.
pub(super) struct Slot {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) text: String,
}

/// A plot.
pub(super) struct Plot {
    pub(super) title: String,
    /// What it shows, for those who do not see it.
    pub(super) summary: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) layers: Vec<Layer>,
    pub(super) slots: Vec<Slot>,
}

/// How large it is drawn, and how many ticks of the horizontal axis there is room for.
#[derive(Clone, Copy)]
struct Size {
    class: &'static str,
    width: f64,
    height: f64,
    most_ticks: usize,
}

const SIZES: [Size; 2] = [
    Size {
        class: "wide",
        width: 760.0,
        height: 260.0,
        most_ticks: 8,
    },
    Size {
        class: "narrow",
        width: 340.0,
        height: 240.0,
        most_ticks: 4,
    },
];

impl Plot {
    /// The plot as a figure.
    pub(super) fn draw(&self) -> Markup {
        let drawn: String = SIZES.iter().map(|size| self.draw_at(*size)).collect();
        Markup(format!(
            "<figure class=\"chart plot\"><figcaption>{}</figcaption>{drawn}</figure>",
            show::text(&self.title)
        ))
    }

    fn draw_at(&self, size: Size) -> String {
        let (width, height) = (size.width - LEFT - RIGHT, size.height - TOP - BOTTOM);
        let scale = |axis: &Axis, value: f64| {
            (value - axis.low) / (axis.high - axis.low).max(f64::MIN_POSITIVE)
        };
        let x = |value: f64| scale(&self.x, value) * width;
        let y = |value: f64| height - scale(&self.y, value) * height;
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<svg class=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
            size.class,
            size.width,
            size.height,
            show::text(&self.summary)
        );
        self.write_axes(&mut svg, size, &x, &y);
        // What lies beyond the scale is cut off at the edge of the inner picture.
        let _ = write!(
            svg,
            "<svg x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\" overflow=\"hidden\">"
        );
        for layer in &self.layers {
            write_layer(&mut svg, layer, (width, height), &x, &y);
        }
        for slot in &self.slots {
            let (from, to) = (x(slot.from).max(0.0), x(slot.to).min(width));
            let _ = write!(
                svg,
                "<rect class=\"slot\" x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height}\"><title>{}</title></rect>",
                (to - from).max(0.0),
                show::text(&slot.text)
            );
        }
        svg.push_str("</svg></svg>");
        svg
    }

    fn write_axes(
        &self,
        svg: &mut String,
        size: Size,
        x: &impl Fn(f64) -> f64,
        y: &impl Fn(f64) -> f64,
    ) {
        let base = size.height - BOTTOM;
        let _ = write!(
            svg,
            "<text class=\"axis\" x=\"4\" y=\"11\">{}</text><text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            show::text(&self.y.label),
            size.width - RIGHT,
            size.height - 4.0,
            show::text(&self.x.label)
        );
        let _ = write!(
            svg,
            "<path class=\"rule\" d=\"M{LEFT} {TOP}V{base}H{}\"/>",
            size.width - RIGHT
        );
        for (value, text) in &self.y.ticks {
            let at = TOP + y(*value);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/><text class=\"axis\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                size.width - RIGHT,
                LEFT - 5.0,
                at + 3.5,
                show::text(text)
            );
        }
        let step = self.x.ticks.len().div_ceil(size.most_ticks).max(1);
        for (value, text) in self.x.ticks.iter().step_by(step) {
            let at = LEFT + x(*value);
            // What is written at an edge stays inside.
            let anchor = match at {
                ..70.0 => "start",
                at if at > size.width - RIGHT - 14.0 => "end",
                _ => "middle",
            };
            let _ = write!(
                svg,
                "<path class=\"rule\" d=\"M{at:.1} {base}v4\"/><text class=\"axis\" x=\"{at:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                base + 15.0,
                show::text(text)
            );
        }
    }
}

fn write_layer(
    svg: &mut String,
    layer: &Layer,
    (width, height): (f64, f64),
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let corner = |(at, value): (f64, f64)| format!("{:.1},{:.1}", x(at), y(value));
    let _ = match layer {
        Layer::Band(class, points) => {
            for stretch in stretches(points) {
                if let [(at, (low, high))] = stretch[..] {
                    let _ = write!(
                        svg,
                        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{}\" height=\"{:.1}\"/>",
                        x(at) - LONE / 2.0,
                        y(high),
                        LONE,
                        (y(low) - y(high)).max(0.0)
                    );
                    continue;
                }
                let upper = stretch.iter().map(|(at, (_, high))| corner((*at, *high)));
                let lower = stretch
                    .iter()
                    .rev()
                    .map(|(at, (low, _))| corner((*at, *low)));
                let corners: Vec<_> = upper.chain(lower).collect();
                let _ = write!(
                    svg,
                    "<polygon class=\"{class}\" points=\"{}\"/>",
                    corners.join(" ")
                );
            }
            Ok(())
        }
        Layer::Line(class, points) => {
            for stretch in stretches(points) {
                if let [(at, value)] = stretch[..] {
                    let from = x(at) - LONE / 2.0;
                    let _ = write!(
                        svg,
                        "<path class=\"{class}\" d=\"M{from:.1} {:.1}h{LONE}\"/>",
                        y(value)
                    );
                    continue;
                }
                let corners: Vec<_> = stretch.into_iter().map(corner).collect();
                let _ = write!(
                    svg,
                    "<polyline class=\"{class}\" points=\"{}\"/>",
                    corners.join(" ")
                );
            }
            Ok(())
        }
        Layer::Dots(points) => points.iter().try_for_each(|(at, value)| {
            write!(
                svg,
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\"/>",
                x(*at),
                y(*value)
            )
        }),
        Layer::Level(class, value) => write!(
            svg,
            "<path class=\"{class}\" d=\"M0 {:.1}H{width}\"/>",
            y(*value)
        ),
        Layer::Place(class, at) => write!(
            svg,
            "<path class=\"{class}\" d=\"M{:.1} 0V{height}\"/>",
            x(*at)
        ),
    };
}

/// The parts of a series between its gaps.
fn stretches<T: Copy>(points: &[(f64, Option<T>)]) -> Vec<Vec<(f64, T)>> {
    points
        .split(|(_, value)| value.is_none())
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.iter()
                .filter_map(|(at, value)| Some((*at, (*value)?)))
                .collect()
        })
        .collect()
}

/// About so many round numbers between two ends.
pub(super) fn round_ticks(low: f64, high: f64, about: u32) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return Vec::new();
    }
    let rough = span / f64::from(about.max(1));
    let power = 10_f64.powf(rough.log10().floor());
    let step = match rough / power {
        ..1.5 => power,
        1.5..3.5 => 2.0 * power,
        3.5..7.5 => 5.0 * power,
        _ => 10.0 * power,
    };
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|place| place as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            round_ticks(0.0, 1.0, 5),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(round_ticks(-7.0, 12.0, 4), [-5.0, 0.0, 5.0, 10.0]);
        assert_eq!(round_ticks(1.0, 1.0, 4), [] as [f64; 0]);
        assert_eq!(round_ticks(f64::NEG_INFINITY, 1.0, 4), [] as [f64; 0]);
    }

    #[test]
    fn series_break_at_their_gaps_and_texts_do_not_act() {
        let plot = Plot {
            title: "<i>".to_owned(),
            summary: "a \"quote\"".to_owned(),
            x: Axis {
                label: "days".to_owned(),
                low: 0.0,
                high: 3.0,
                ticks: vec![(0.0, "0".to_owned())],
            },
            y: Axis {
                label: "points".to_owned(),
                low: -1.0,
                high: 1.0,
                ticks: Vec::new(),
            },
            layers: vec![
                Layer::Band(
                    "band",
                    vec![
                        (0.0, Some((-1.0, 1.0))),
                        (1.0, None),
                        (2.0, Some((0.0, 1.0))),
                    ],
                ),
                Layer::Line("line", vec![(0.0, Some(0.0)), (1.0, Some(0.5))]),
            ],
            slots: vec![Slot {
                from: 0.0,
                to: 1.0,
                text: "day <1>".to_owned(),
            }],
        };
        let drawn = plot.draw().0;
        assert_eq!(drawn.matches("<rect class=\"band\"").count(), 4);
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert!(drawn.contains("<title>day &lt;1&gt;</title>"), "{drawn}");
        assert!(
            drawn.contains("aria-label=\"a &quot;quote&quot;\""),
            "{drawn}"
        );
        assert!(!drawn.contains("<i>"));
    }
}

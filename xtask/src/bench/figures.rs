//! The table: what was measured, compared with nginx or with a goal.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

/// Everything that was measured, in order.
#[derive(Default, Serialize)]
pub(super) struct Figures(Vec<Figure>);

#[derive(Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// The same measured of nginx in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    nginx: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// What a figure is to reach.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// At least this many times the figure of nginx.
    TimesNginx(f64),
    AtLeast(f64),
    AtMost(f64),
}

impl Figures {
    /// Adds a figure that has no goal.
    pub(super) fn add(&mut self, name: &str, value: f64, unit: &'static str, nginx: Option<f64>) {
        self.push(name, value, unit, nginx, None);
    }

    /// Adds a figure with what it is to reach.
    pub(super) fn add_goal(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        nginx: Option<f64>,
        goal: Goal,
    ) {
        self.push(name, value, unit, nginx, Some(goal));
    }

    fn push(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        nginx: Option<f64>,
        goal: Option<Goal>,
    ) {
        eprintln!("{name}: {} {unit}", number(value));
        let met = goal.map(|goal| match goal {
            Goal::TimesNginx(times) => nginx.is_some_and(|nginx| value >= times * nginx),
            Goal::AtLeast(least) => value >= least,
            Goal::AtMost(most) => value <= most,
        });
        let goal = goal.map(|goal| match goal {
            Goal::TimesNginx(times) => format!("at least {times}x nginx"),
            Goal::AtLeast(least) => format!("at least {}", number(least)),
            Goal::AtMost(most) => format!("at most {}", number(most)),
        });
        self.0.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            nginx,
            goal,
            met,
        });
    }

    /// How many goals were missed.
    pub(super) fn missed(&self) -> usize {
        self.0
            .iter()
            .filter(|figure| figure.met == Some(false))
            .count()
    }

    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<46} {:>10} {:<9} {:>10} {:>6}  {:<20}",
            "", "flywheel", "", "nginx", "ratio", "goal"
        )?;
        for figure in &self.0 {
            let nginx = figure.nginx.map(number).unwrap_or_default();
            let ratio = figure.nginx.filter(|nginx| *nginx > 0.0);
            let ratio = ratio.map(|nginx| format!("{:.2}x", figure.value / nginx));
            let met = match figure.met {
                Some(true) => "pass",
                Some(false) => "MISS",
                None => "",
            };
            writeln!(
                formatter,
                "{:<46} {:>10} {:<9} {nginx:>10} {:>6}  {:<20} {met}",
                figure.name,
                number(figure.value),
                figure.unit,
                ratio.unwrap_or_default(),
                figure.goal.as_deref().unwrap_or_default(),
            )?;
        }
        Ok(())
    }
}

/// Three digits that matter, none behind the point of large numbers.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The middle of several measurements.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a share of the measurements lies.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        for (values, share, expected) in [
            (&[3.0, 1.0, 2.0][..], 0.5, 2.0),
            (&[4.0, 1.0, 2.0, 3.0], 0.5, 2.0),
            (&[1.0, 2.0], 0.99, 2.0),
            (&[7.0], 0.0, 7.0),
        ] {
            assert_eq!(quantile(values, share), expected);
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn goals_are_judged() {
        let mut figures = Figures::default();
        figures.add_goal("a", 2.0, "/s", Some(10.0), Goal::TimesNginx(0.2));
        figures.add_goal("b", 1.0, "ms", None, Goal::AtMost(2.0));
        figures.add_goal("c", 1.0, "/s", None, Goal::AtLeast(2.0));
        figures.add_goal("d", f64::NAN, "/s", None, Goal::AtLeast(2.0));
        assert_eq!(figures.missed(), 2);
        assert!(figures.to_string().contains("0.20x"));
    }
}

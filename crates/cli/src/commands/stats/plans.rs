//! How many users, and how long.

use anyhow::{Result, bail};
use clap::Args;
use flywheel_stats::planning::duration::{LONGEST_SENSIBLE, Looks, guessed_days};
use flywheel_stats::planning::proportions::DetectableEffect;
use flywheel_stats::planning::{ArmSizes, ErrorRates, means, proportions};
use serde_json::json;

use super::inputs::{Effect, parse_effect, parse_open_share, parse_share};
use super::{Level, Report, count, member, must, percent, points, shown, signed, trimmed};
use crate::printer::Style;

/// What is to be detected.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("basis").required(true).args(["base", "deviation"]))]
pub(crate) struct SizeArgs {
    /// The rate as it is now, such as 60%
    #[arg(long, value_name = "SHARE", value_parser = parse_share, requires = "mde")]
    base: Option<f64>,
    /// The smallest difference worth detecting: points of the rate (5pt) or percent of it (5%)
    #[arg(long, value_name = "EFFECT", value_parser = parse_effect, allow_hyphen_values = true)]
    mde: Option<Effect>,
    /// For means: the standard deviation between users
    #[arg(long = "sd", value_name = "N", requires = "difference")]
    deviation: Option<f64>,
    /// For means: the smallest difference worth detecting, in the metric's own unit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    difference: Option<f64>,
    /// The chance to find it
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = parse_open_share)]
    power: f64,
    /// Users of the treatment for each one of the control
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    ratio: f64,
    /// Users a day that take part, for a guess at the days
    #[arg(long, value_name = "N")]
    users_per_day: Option<f64>,
    #[command(flatten)]
    level: Level,
}

impl SizeArgs {
    pub(super) fn report(self) -> Result<Report> {
        let rates = ErrorRates {
            alpha: self.level.alpha,
            power: self.power,
            two_sided: true,
        };
        match (self.base, self.mde, self.deviation, self.difference) {
            (Some(base), Some(effect), None, _) => self.of_rates(base, effect.0, rates),
            (None, _, Some(deviation), Some(difference)) => {
                if deviation <= 0.0 {
                    bail!("`--sd` must be above 0");
                }
                let sizes = means::sample_size(difference.abs() / deviation, self.ratio, rates);
                let sizes = must("no sample size", sizes)?;
                let claim = format!(
                    "a difference of {} at a standard deviation of {}",
                    signed(difference),
                    trimmed(deviation)
                );
                self.report_of(sizes, claim, rates, Vec::new())
            }
            _ => bail!(
                "give `--base` and `--mde` for a rate, or `--sd` and `--difference` for a mean"
            ),
        }
    }

    fn of_rates(&self, base: f64, effect: DetectableEffect, rates: ErrorRates) -> Result<Report> {
        let rate = must("the rate to be detected", effect.rate(base))?;
        let sizes = must(
            "no sample size",
            proportions::sample_size(base, rate, self.ratio, rates),
        )?;
        let corrected = proportions::sample_size_with_continuity(base, rate, self.ratio, rates);
        let relative = if base > 0.0 {
            format!(", {}% of it", signed((rate / base - 1.0) * 100.0))
        } else {
            String::new()
        };
        let claim = format!(
            "{} to {} ({}{relative})",
            percent(base),
            percent(rate),
            points(rate - base)
        );
        let corrected = shown(corrected, |sizes| {
            format!("{} per arm", count(sizes.first.max(sizes.second)))
        });
        self.report_of(
            sizes,
            claim,
            rates,
            vec![("with continuity correction", corrected)],
        )
    }

    fn report_of(
        &self,
        sizes: ArmSizes,
        claim: String,
        rates: ErrorRates,
        further: Vec<(&'static str, String)>,
    ) -> Result<Report> {
        let (first, second) = (sizes.first_rounded(), sizes.second_rounded());
        let all = first + second;
        let per_arm = match first == second {
            true if first == 1.0 => "1 user per arm".to_owned(),
            true => format!("{} users per arm", count(first)),
            false => format!("{} and {} users", count(first), count(second)),
        };
        let looking = |looks: Looks| {
            let cost = must("no sample size", looks.cost(rates))?;
            anyhow::Ok((all * cost.largest, all * cost.expected))
        };
        let (anytime, expected) = looking(Looks::Anytime)?;
        let (planned, planned_expected) = looking(Looks::Planned)?;
        let mut entries = vec![
            ("to detect", claim),
            (
                "with",
                format!(
                    "power {}, α = {}, two-sided",
                    percent(self.power),
                    percent(self.level.alpha)
                ),
            ),
            ("looking once", format!("{} users", count(all))),
            (
                "at ten planned times",
                format!(
                    "at most {}, {} expected",
                    count(planned),
                    count(planned_expected)
                ),
            ),
            (
                "at any time",
                format!("at most {}, {} expected", count(anytime), count(expected)),
            ),
        ];
        entries.extend(further);
        let share = |units: f64| units / all;
        let days = self.users_per_day.map(|users| {
            let scale = anytime / all;
            let needs = [
                (share(first), first * scale),
                (share(second), second * scale),
            ];
            guessed_days(users, &needs)
        });
        let mut hint = Some(
            "--users-per-day N adds how long that takes; users who come back count once, so take those who are new on a day"
                .to_owned(),
        );
        if let Some(days) = days {
            let in_words = shown(days, |days| {
                format!("at most {} days, whole weeks, a guess", count(days))
            });
            entries.push(("which takes", in_words));
            hint = match days {
                Ok(days) if days > f64::from(LONGEST_SENSIBLE) => Some(
                    "that is longer than most changes last: a larger difference, a steadier metric or fewer arms".to_owned(),
                ),
                _ => None,
            };
        }
        Ok(Report {
            headline: per_arm,
            style: Style::Strong,
            value: json!({
                "per_arm": {"control": first, "treatment": second},
                "exact": {"control": sizes.first, "treatment": sizes.second},
                "once": all,
                "planned": {"largest": planned, "expected": planned_expected},
                "anytime": {"largest": anytime, "expected": expected},
                "days": days.map(|days| member(days, |days| json!(days))),
            }),
            entries,
            hint,
        })
    }
}

//! Two arms, one question: is the second different from the first?

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use flywheel_core::plan::DEFAULT_TUNING;
use flywheel_stats::accumulate::{CrossMoments, Moments};
use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{Inference, Mode, infer};
use flywheel_stats::proportion::{Proportion, wilson_interval};
use flywheel_stats::rank::{RankMethod, RankedCounts};
use flywheel_stats::sequential::randomisation::{self, UnitCounts};
use flywheel_stats::sequential::{p_from_log_e, rho_squared};
use flywheel_stats::two_proportions::{self, TestKind};
use flywheel_stats::undefined::Defined;
use flywheel_stats::{Interval, means, ratio};
use serde_json::{Value, json};

use super::inputs::{Counts, Rate, Summary, parse_counts, parse_rate, parse_summary, read_arms};
use super::{
    Level, Report, interval_json, member, must, p_value, percent, points, shown, signed, trimmed,
};
use crate::printer::Style;

/// How the result may be looked at.
#[derive(Debug, Clone, Copy, Args)]
struct Looking {
    #[command(flatten)]
    level: Level,
    /// Users in all that the comparison was planned for, which decides where the interval for any time is narrowest [default: 5000]
    #[arg(long, value_name = "N")]
    planned: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct RatesArgs {
    /// The control: successes of users
    #[arg(value_name = "X/N", value_parser = parse_rate)]
    control: Rate,
    /// The treatment
    #[arg(value_name = "X/N", value_parser = parse_rate)]
    treatment: Rate,
    #[command(flatten)]
    looking: Looking,
}

impl RatesArgs {
    pub(super) fn report(self) -> Result<Report> {
        let alpha = self.looking.level.alpha;
        let of = |rate: Rate| must("the rate", Proportion::new(rate.successes, rate.n));
        let (a, b) = (of(self.control)?, of(self.treatment)?);
        let difference = b.share() - a.share();
        let newcombe = two_proportions::newcombe_interval(a, b, alpha);
        let test = two_proportions::test(a, b);
        let moments = |rate: Rate| Moments::of_proportion(rate.successes, rate.n);
        let arms = moments(self.control).and_then(|a| Ok((a, moments(self.treatment)?)));
        let anytime =
            arms.and_then(|(a, b)| at_any_time(&means::difference(&a, &b)?, self.looking));
        let arm = |rate: Rate, share: f64| {
            let interval = wilson_interval(rate.successes, rate.n, alpha);
            format!(
                "{} ({} of {}; {})",
                percent(share),
                rate.successes,
                rate.n,
                shown(interval, |interval| between(interval, percent))
            )
        };
        let kind = |kind: TestKind| match kind {
            TestKind::ChiSquared => "Pearson's χ²",
            TestKind::FisherExact => "Fisher's exact test, for there are few",
        };
        let mut entries = vec![
            ("control", arm(self.control, a.share())),
            ("treatment", arm(self.treatment, b.share())),
            (
                "looked at once",
                format!(
                    "{} ({}), p {}",
                    points(difference),
                    shown(newcombe, |interval| between(interval, |share| trimmed(
                        share * 100.0
                    ))),
                    shown(test, |(method, p)| format!(
                        "{} by {}",
                        p_value(p),
                        kind(method)
                    ))
                ),
            ),
        ];
        let few = !two_proportions::enough_for_normal(a, b);
        let anytime = match few {
            true => Err(flywheel_stats::undefined::Undefined::Domain(
                "fewer than 10 events or 10 non-events in an arm: it would rest on too little",
            )),
            false => anytime,
        };
        let in_points = sequence(anytime, |value| trimmed(value * 100.0));
        let in_points = match anytime {
            Ok(_) => format!("{in_points}; in points"),
            Err(_) => in_points,
        };
        entries.push(("looked at any time", in_points));
        let counted = few.then(|| self.few());
        if let Some(counted) = counted {
            entries.push((
                "the few, at any time",
                shown(counted, |p| {
                    format!(
                        "p {} by the randomisation e-test, if users were split {} to {}",
                        p_value(p),
                        self.control.n,
                        self.treatment.n
                    )
                }),
            ));
        }
        let is_found = matches!(counted, Some(Ok(p)) if p <= alpha);
        let finding = match is_found && difference != 0.0 {
            true => Some(difference > 0.0),
            false => is_higher(anytime),
        };
        Ok(Report {
            value: json!({
                "difference": difference,
                "once": {
                    "method": "Newcombe hybrid score",
                    "interval": member(newcombe, interval_json),
                    "p": member(test.map(|(_, p)| p), Value::from),
                },
                "anytime": member(anytime, inference_json),
                "few_p": counted.map(|p| member(p, Value::from)),
            }),
            ..verdict(finding, points(difference), entries, self.looking)
        })
    }

    /// p of small counts, which may be looked at as often as one likes.
    fn few(&self) -> Defined<f64> {
        let units = |rate: Rate| UnitCounts {
            n: rate.n as f64,
            any: rate.successes as f64,
            not_all: (rate.n - rate.successes) as f64,
        };
        let share = self.treatment.n as f64 / (self.control.n + self.treatment.n) as f64;
        let log_e = randomisation::log_e_of_few(units(self.control), units(self.treatment), share)?;
        Ok(p_from_log_e(log_e))
    }
}

#[derive(Debug, Args)]
pub(crate) struct MeansArgs {
    /// The control: users, mean, standard deviation
    #[arg(value_name = "N,MEAN,SD", value_parser = parse_summary, required_unless_present = "csv", requires = "treatment")]
    control: Option<Summary>,
    /// The treatment
    #[arg(value_name = "N,MEAN,SD", value_parser = parse_summary)]
    treatment: Option<Summary>,
    /// A file with the columns arm, value and, if users have several lines, user: the values of a user are added up, so that
    /// totals are compared. The first arm is the control
    #[arg(long, value_name = "FILE", conflicts_with = "control")]
    csv: Option<PathBuf>,
    #[command(flatten)]
    looking: Looking,
}

impl MeansArgs {
    pub(super) fn report(self) -> Result<Report> {
        let (names, a, b) = match (&self.csv, self.control, self.treatment) {
            (Some(path), ..) => {
                let arms = read_arms(path, &["value"])?;
                let moments = |users: &[Vec<f64>]| {
                    let values: Vec<f64> = users.iter().map(|sums| sums[0]).collect();
                    Moments::of(&values)
                };
                (arms.names, moments(&arms.users[0]), moments(&arms.users[1]))
            }
            (None, Some(control), Some(treatment)) => {
                let moments = |summary: Summary| {
                    let variance = summary.deviation * summary.deviation;
                    must(
                        "the summary",
                        Moments::from_variance(summary.n, summary.mean, variance),
                    )
                };
                let names = ["control", "treatment"].map(str::to_owned);
                (names, moments(control)?, moments(treatment)?)
            }
            _ => bail!("give both arms as `N,MEAN,SD`, or a file with `--csv`"),
        };
        let estimate = must("no difference", means::difference(&a, &b))?;
        let arm = |moments: &Moments| {
            format!("{} ({} users)", shown(moments.mean(), trimmed), moments.n())
        };
        let entries = vec![
            ("control", format!("{}: {}", names[0], arm(&a))),
            ("treatment", format!("{}: {}", names[1], arm(&b))),
        ];
        of_estimate(&estimate, entries, "Welch", self.looking)
    }
}

#[derive(Debug, Args)]
pub(crate) struct RatiosArgs {
    /// The file: columns arm, numerator, denominator and, if users have several lines, user; the first arm is the control
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    #[command(flatten)]
    looking: Looking,
}

impl RatiosArgs {
    pub(super) fn report(self) -> Result<Report> {
        let arms = read_arms(&self.csv, &["numerator", "denominator"])?;
        let moments = |users: &[Vec<f64>]| {
            let values: Vec<[f64; 2]> = users.iter().map(|sums| [sums[0], sums[1]]).collect();
            CrossMoments::of(&values)
        };
        let (a, b) = (moments(&arms.users[0]), moments(&arms.users[1]));
        let estimate = must("no difference", ratio::difference(&a, &b))?;
        let arm = |users: &CrossMoments<2>| {
            let value = ratio::arm(users).map(|arm| arm.value);
            format!("{} ({} users)", shown(value, trimmed), users.n())
        };
        let entries = vec![
            ("control", format!("{}: {}", arms.names[0], arm(&a))),
            ("treatment", format!("{}: {}", arms.names[1], arm(&b))),
        ];
        of_estimate(&estimate, entries, "delta method over users", self.looking)
    }
}

#[derive(Debug, Args)]
pub(crate) struct RanksArgs {
    /// The control: how many gave 1, 2, 3…
    #[arg(value_name = "COUNTS", value_parser = parse_counts)]
    control: Counts,
    /// The treatment
    #[arg(value_name = "COUNTS", value_parser = parse_counts)]
    treatment: Counts,
    #[command(flatten)]
    level: Level,
}

impl RanksArgs {
    pub(super) fn report(self) -> Result<Report> {
        let (a, b) = (&self.control.0, &self.treatment.0);
        if a.len() != b.len() {
            bail!(
                "the control has {} grades and the treatment {}; write 0 for a grade that nobody gave",
                a.len(),
                b.len()
            );
        }
        let ranked = must("no comparison", RankedCounts::from_histograms(a, b))?;
        let compared = must("no comparison", ranked.brunner_munzel(self.level.alpha))?;
        let familiar = ranked.mann_whitney(RankMethod::Automatic);
        let mean = |counts: &[u64]| {
            let n: u64 = counts.iter().sum();
            let sum: f64 = counts
                .iter()
                .zip(1..)
                .map(|(count, grade)| *count as f64 * f64::from(grade))
                .sum();
            format!("mean {} of {n}", trimmed(sum / n as f64))
        };
        let interval = compared.shown;
        let chance = format!(
            "{} ({})",
            percent(compared.theta),
            between(interval, percent)
        );
        let (style, headline) = if interval.low > 0.5 {
            (Style::Good, "The treatment is graded better.")
        } else if interval.high < 0.5 {
            (Style::Bad, "The treatment is graded worse.")
        } else {
            (Style::Strong, "No difference is shown.")
        };
        Ok(Report {
            headline: headline.to_owned(),
            style,
            entries: vec![
                ("control", mean(a)),
                ("treatment", mean(b)),
                (
                    "a treated user grades higher in",
                    format!(
                        "{chance} of pairs, ties half; Brunner–Munzel, p {}",
                        p_value(compared.p)
                    ),
                ),
                (
                    "Mann–Whitney",
                    shown(familiar, |test| format!("p {}", p_value(test.p))),
                ),
            ],
            hint: Some("this holds for one look, decided beforehand".to_owned()),
            value: json!({
                "theta": compared.theta,
                "interval": interval_json(interval),
                "p": compared.p,
                "mann_whitney_p": member(familiar.map(|test| test.p), Value::from),
            }),
        })
    }
}

fn of_estimate(
    estimate: &Estimate,
    mut entries: Vec<(&'static str, String)>,
    method: &str,
    looking: Looking,
) -> Result<Report> {
    let once = infer(estimate, Mode::Fixed, looking.level.alpha);
    let anytime = at_any_time(estimate, looking);
    entries.push((
        "looked at once",
        format!("{}; {method}", sequence(once, trimmed)),
    ));
    entries.push(("looked at any time", sequence(anytime, trimmed)));
    Ok(Report {
        value: json!({
            "difference": estimate.value,
            "standard_error": estimate.standard_error,
            "degrees_of_freedom": estimate.degrees_of_freedom,
            "once": member(once, inference_json),
            "anytime": member(anytime, inference_json),
        }),
        ..verdict(is_higher(anytime), signed(estimate.value), entries, looking)
    })
}

fn at_any_time(estimate: &Estimate, looking: Looking) -> Defined<Inference> {
    let alpha = looking.level.alpha;
    // Never what was found: an interval that is narrowest wherever one looks holds at no time.
    let planned = looking.planned.unwrap_or(DEFAULT_TUNING);
    let rho_squared = rho_squared(alpha, planned)?;
    infer(estimate, Mode::Anytime { rho_squared }, alpha)
}

fn sequence(inference: Defined<Inference>, number: impl Fn(f64) -> String) -> String {
    shown(inference, |inference| {
        let sign = if inference.estimate > 0.0 { "+" } else { "" };
        format!(
            "{sign}{} ({}), p {}",
            number(inference.estimate),
            shown(inference.interval, |interval| between(interval, &number)),
            shown(inference.p, p_value)
        )
    })
}

/// Whether the treatment is higher, or lower, by the interval for any time; nothing if that holds both.
fn is_higher(anytime: Defined<Inference>) -> Option<bool> {
    let interval = anytime.and_then(|inference| inference.interval).ok()?;
    (interval.low > 0.0 || interval.high < 0.0).then_some(interval.low > 0.0)
}

/// What was found at any time, in the words that people may act on.
fn verdict(
    is_higher: Option<bool>,
    difference: String,
    entries: Vec<(&'static str, String)>,
    looking: Looking,
) -> Report {
    let found = |direction: &str| {
        format!(
            "The treatment is {direction}: {difference}. You may stop now; stopping early, the estimate is likely a little large."
        )
    };
    let (style, headline) = match is_higher {
        Some(true) => (Style::Good, found("higher")),
        Some(false) => (Style::Bad, found("lower")),
        None => (Style::Strong, format!("No verdict yet: {difference}.")),
    };
    Report {
        headline,
        style,
        entries,
        hint: looking.planned.is_none().then(|| {
            "--planned N, the users in all that you planned for, makes the interval for any time narrowest there; fix it before you look".to_owned()
        }),
        value: Value::Null,
    }
}

fn between(interval: Interval, number: impl Fn(f64) -> String) -> String {
    format!("{} to {}", number(interval.low), number(interval.high))
}

fn inference_json(inference: Inference) -> Value {
    json!({
        "estimate": inference.estimate,
        "standard_error": inference.standard_error,
        "interval": member(inference.interval, interval_json),
        "p": member(inference.p, Value::from),
    })
}

//! How many units a comparison of two rates or means takes, with the power that fewer or more of them have.

use askama::Template;
use axum::extract::State;
use flywheel_stats::planning::duration::{CostOfLooking, LONGEST_SENSIBLE, Looks, guessed_days};
use flywheel_stats::planning::proportions::DetectableEffect;
use flywheel_stats::planning::{ArmSizes, ErrorRates, means, proportions};
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::experiment::amounts::number;
use super::form::PageQuery;
use super::plot::{Axis, Layer, Plot, Slot, round_ticks};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::readout::words::{count, trimmed};
use crate::problem::{ApiResult, Problem};

/// What was typed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    /// `rates` or `means`.
    of: String,
    /// The rate now, in per cent.
    base: String,
    /// The smallest difference of rates.
    mde: String,
    /// Whether that is `relative`.
    mde_kind: String,
    /// The standard deviation between units.
    deviation: String,
    /// The smallest difference of means.
    difference: String,
    alpha: String,
    power: String,
    /// Units of the treatment for each one of the control.
    ratio: String,
    units_per_day: String,
}

impl Default for Question {
    fn default() -> Self {
        let text = str::to_owned;
        Self {
            of: text("rates"),
            base: text("60"),
            mde: text("5"),
            mde_kind: text("absolute"),
            deviation: text("1.2"),
            difference: text("0.2"),
            alpha: text("5"),
            power: text("80"),
            ratio: text("1"),
            units_per_day: String::new(),
        }
    }
}

/// How many units it takes at a power.
type SizeAt = dyn Fn(f64) -> Option<ArmSizes>;

/// How many days in words, and what to do if these are too many.
type Days = (Option<String>, Option<&'static str>);

struct Answer {
    headline: String,
    facts: Vec<(&'static str, String)>,
    advice: Option<&'static str>,
    plot: Markup,
    /// Power and units of each arm.
    rows: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "calculator.html")]
struct CalculatorPage {
    frame: Frame,
    question: Question,
    is_of_means: bool,
    answer: Option<Answer>,
    problem: Option<Markup>,
}

/// `GET /calculator`
pub(super) async fn show_calculator(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(question): PageQuery<Question>,
) -> PageResult {
    let (answer, problem) = match question.answer() {
        Ok(answer) => (Some(answer), None),
        Err(problem) => (None, Some(show::prose(problem.detail()))),
    };
    page(&CalculatorPage {
        frame: Frame::new(&context, &visitor, "Sample sizes", "/experiments"),
        is_of_means: question.is_of_means(),
        question,
        answer,
        problem,
    })
}

fn typed_number(what: &str, text: &str) -> ApiResult<f64> {
    let digits = text.trim().trim_end_matches('%').trim();
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(Problem::invalid(format!(
            "{what} must be a number, not `{text}`"
        ))),
    }
}

fn percent(share: f64) -> String {
    format!("{}%", number(share * 100.0))
}

impl Question {
    fn is_of_means(&self) -> bool {
        self.of == "means"
    }

    fn rates(&self) -> ApiResult<ErrorRates> {
        Ok(ErrorRates {
            alpha: typed_number("α", &self.alpha)? / 100.0,
            power: typed_number("the power", &self.power)? / 100.0,
            two_sided: true,
        })
    }

    fn answer(&self) -> ApiResult<Answer> {
        let rates = self.rates()?;
        let ratio = typed_number("the ratio", &self.ratio)?;
        let undefined =
            |error: flywheel_stats::undefined::Undefined| Problem::invalid(error.to_string());
        let at = move |power: f64| ErrorRates { power, ..rates };
        let (claim, sizes, size_at): (String, ArmSizes, Box<SizeAt>) = if self.is_of_means() {
            let deviation = typed_number("the standard deviation", &self.deviation)?;
            let difference = typed_number("the difference", &self.difference)?;
            if deviation <= 0.0 {
                return Err(Problem::invalid("the standard deviation must be above 0"));
            }
            let d = difference.abs() / deviation;
            let claim = format!(
                "a difference of {} at a standard deviation of {}",
                number(difference),
                number(deviation)
            );
            let sizes = means::sample_size(d, ratio, rates).map_err(undefined)?;
            (
                claim,
                sizes,
                Box::new(move |power| means::sample_size(d, ratio, at(power)).ok()),
            )
        } else {
            let (base, rate) = self.two_rates()?;
            let mut claim = format!(
                "{} to {}: {} points",
                percent(base),
                percent(rate),
                number((rate - base) * 100.0)
            );
            if base > 0.0 {
                claim.push_str(&format!(", {} of it", percent(rate / base - 1.0)));
            }
            let sizes = proportions::sample_size(base, rate, ratio, rates).map_err(undefined)?;
            (
                claim,
                sizes,
                Box::new(move |power| proportions::sample_size(base, rate, ratio, at(power)).ok()),
            )
        };
        let curve = curve(&size_at);
        let planned = Looks::Planned.cost(rates).map_err(undefined)?;
        let anytime = Looks::Anytime.cost(rates).map_err(undefined)?;
        let (days, advice) = self.days(&sizes, anytime.largest)?;
        Ok(Answer {
            headline: headline(&sizes),
            facts: facts(claim, &sizes, rates, [planned, anytime], days),
            advice,
            plot: plot(&curve, &sizes, rates.power).draw(),
            rows: curve
                .iter()
                .filter(|(power, _)| is_round(*power))
                .map(|(power, sizes)| (percent(*power), count(sizes.first), count(sizes.second)))
                .collect(),
        })
    }

    /// The rate now, and the one that is to be detected.
    fn two_rates(&self) -> ApiResult<(f64, f64)> {
        let base = typed_number("the rate", &self.base)? / 100.0;
        let size = typed_number("the difference", &self.mde)? / 100.0;
        let effect = match self.mde_kind.as_str() {
            "relative" => DetectableEffect::Relative(size),
            _ => DetectableEffect::Absolute(size),
        };
        match effect.rate(base) {
            Ok(rate) => Ok((base, rate)),
            Err(_) => Err(Problem::invalid(
                "both rates must lie between 0% and 100%: the one now, and the one to be detected",
            )),
        }
    }

    /// Days at any time of looking, if the traffic was typed.
    fn days(&self, sizes: &ArmSizes, largest: f64) -> ApiResult<Days> {
        if self.units_per_day.trim().is_empty() {
            return Ok((None, None));
        }
        let per_day = typed_number("the number of units a day", &self.units_per_day)?;
        let (first, second) = (sizes.first_rounded(), sizes.second_rounded());
        let all = first + second;
        let needs = [
            (first / all, first * largest),
            (second / all, second * largest),
        ];
        Ok(match guessed_days(per_day, &needs) {
            Ok(days) => (
                Some(format!("at most {} days, whole weeks, a guess", count(days))),
                (days > f64::from(LONGEST_SENSIBLE)).then_some(
                    "That is longer than most changes last: a larger difference, a steadier metric or fewer arms take less.",
                ),
            ),
            Err(undefined) => (Some(undefined.to_string()), None),
        })
    }
}

fn headline(sizes: &ArmSizes) -> String {
    let (first, second) = (sizes.first_rounded(), sizes.second_rounded());
    if first == second {
        format!("{} units per arm.", count(first))
    } else {
        format!(
            "{} units of the control and {} of the treatment.",
            count(first),
            count(second)
        )
    }
}

fn facts(
    claim: String,
    sizes: &ArmSizes,
    rates: ErrorRates,
    [planned, anytime]: [CostOfLooking; 2],
    days: Option<String>,
) -> Vec<(&'static str, String)> {
    let all = sizes.first_rounded() + sizes.second_rounded();
    let looking = |cost: CostOfLooking| {
        format!(
            "at most {} units, {} expected",
            count(all * cost.largest),
            count(all * cost.expected)
        )
    };
    let mut facts = vec![
        ("to detect", claim),
        (
            "with",
            format!(
                "power {}, α = {}, two-sided",
                percent(rates.power),
                percent(rates.alpha)
            ),
        ),
        ("looking once", format!("{} units", count(all))),
        ("at ten planned times", looking(planned)),
        ("at any time", looking(anytime)),
    ];
    facts.extend(days.map(|days| ("which takes", days)));
    facts
}

/// Powers and the units that they take.
fn curve(size_at: &SizeAt) -> Vec<(f64, ArmSizes)> {
    (5..=99)
        .map(|percent| f64::from(percent) / 100.0)
        .filter_map(|power| Some((power, size_at(power)?)))
        .collect()
}

fn is_round(power: f64) -> bool {
    [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
        .iter()
        .any(|round| (round - power).abs() < 1e-9)
}

fn plot(curve: &[(f64, ArmSizes)], sizes: &ArmSizes, power: f64) -> Plot {
    let larger = |sizes: &ArmSizes| sizes.first.max(sizes.second);
    let points: Vec<(f64, f64)> = curve
        .iter()
        .map(|(power, sizes)| (larger(sizes), power * 100.0))
        .collect();
    let most = points
        .iter()
        .map(|(units, _)| *units)
        .fold(larger(sizes), f64::max);
    let percent_tick = |value: f64| (value, format!("{value:.0}%"));
    Plot {
        title: "Power by units of the larger arm, looking once".to_owned(),
        summary: format!(
            "Power by units of the larger arm, looking once; {} at {} units",
            percent(power),
            count(larger(sizes))
        ),
        x: Axis {
            label: "units of the larger arm".to_owned(),
            low: 0.0,
            high: most * 1.02,
            ticks: round_ticks(0.0, most, 6)
                .into_iter()
                .map(|units| (units, count(units)))
                .collect(),
        },
        y: Axis {
            label: "power".to_owned(),
            low: 0.0,
            high: 100.0,
            ticks: [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
                .map(percent_tick)
                .to_vec(),
        },
        layers: vec![
            Layer::Level("effect", power * 100.0),
            Layer::Place("effect", larger(sizes)),
            Layer::Line(
                "line",
                points
                    .iter()
                    .map(|(units, power)| (*units, Some(*power)))
                    .collect(),
            ),
            Layer::Dots(vec![(larger(sizes), power * 100.0)]),
        ],
        slots: points
            .windows(2)
            .map(|pair| Slot {
                from: pair[0].0,
                to: pair[1].0,
                text: format!("{} units: power {}%", count(pair[1].0), trimmed(pair[1].1)),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_percent_take_what_they_take() {
        let points = Question::default().answer().unwrap();
        assert_eq!(points.headline, "1,471 units per arm.");
        let relative = Question {
            mde_kind: "relative".to_owned(),
            ..Question::default()
        };
        assert_eq!(relative.answer().unwrap().headline, "4,129 units per arm.");
        let plot = points.plot.0;
        assert!(plot.contains("80% at 1,471 units"), "{plot}");
        assert!(!plot.contains("NaN"));
        let at_80 = points
            .rows
            .iter()
            .find(|(power, _, _)| power == "80%")
            .unwrap();
        assert_eq!(at_80.1, "1,471");
    }

    #[test]
    fn what_cannot_be_computed_is_said() {
        let refused = |change: fn(&mut Question)| {
            let mut question = Question::default();
            change(&mut question);
            question.answer().err().unwrap().detail().to_owned()
        };
        for (found, says) in [
            (
                refused(|q| q.base = "x".to_owned()),
                "the rate must be a number, not `x`",
            ),
            (refused(|q| q.base = "98".to_owned()), "both rates must lie"),
            (
                refused(|q| q.mde = "0".to_owned()),
                "planned difference is zero",
            ),
            (refused(|q| q.power = "1".to_owned()), "power must exceed"),
            (
                refused(|q| {
                    q.of = "means".to_owned();
                    q.deviation = "0".to_owned();
                }),
                "standard deviation must be above 0",
            ),
        ] {
            assert!(found.contains(says), "{found}");
        }
    }
}

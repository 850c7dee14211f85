//! Goal 3: a planned difference is found in at least 80% of runs, for a little more users than one look would need.

use anyhow::Result;
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::planning::{self, ErrorRates};
use flywheel_stats::sequential::group_sequential::{SPENDING_EXPONENT, boundaries};
use flywheel_stats::sequential::rho_squared;
use flywheel_stats::undefined::Defined;

use super::draw::Draw;
use super::level::{ALPHA, FIRST, STEP};
use super::runs::Plan;
use super::streams::{Arms, Rates, Values};
use super::table::Table;

const POWER: f64 = 0.8;
/// Times the users of a single look: for a look at any time, and for ten planned ones.
const ANYTIME: f64 = 1.65;
const PLANNED: f64 = 1.10;
const LOOKS: u64 = 10;

const BASE: f64 = 0.60;
const RAISED: f64 = 0.65;
/// A difference of means in standard deviations.
const EFFECT: f64 = 0.1;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let errors = ErrorRates {
        alpha: ALPHA,
        power: POWER,
        two_sided: true,
    };
    let users_of_rates = planning::proportions::sample_size(BASE, RAISED, 1.0, errors)?;
    let users_of_means = planning::means::sample_size(EFFECT, 1.0, errors)?;
    let rates = Rates::new([BASE, RAISED]);
    let means = Values::new(Draw::normal, EFFECT);
    let none = Rates::new([BASE; 2]);
    let users = users_of_rates.first_rounded() + users_of_rates.second_rounded();
    anytime(plan, table, "60% to 65%", &rates, users)?;
    planned(plan, table, "60% to 65%", &rates, users)?;
    let users = users_of_means.first_rounded() + users_of_means.second_rounded();
    anytime(plan, table, "a mean by 0.1 sd", &means, users)?;
    planned(plan, table, "a mean by 0.1 sd", &means, users)?;
    let name = "identical arms told apart: rate .6 at 10 planned looks";
    let boundaries = ten_boundaries()?;
    let count = plan.count(name, plan.runs(20_000, 1500), |draw| {
        Ok(planned_looks(draw, none.clone(), PLANNED * users, &boundaries)?.is_some())
    })?;
    table.at_most(2, name, count, ALPHA)
}

/// The default sequence, tuned to the users of a single look and looked at until 1.65 times as many.
fn anytime(plan: &Plan, table: &mut Table, what: &str, arms: &impl Arms, users: f64) -> Result<()> {
    let name = format!("{what} found with 1.65 × the users, t-mixture, look every {STEP}");
    let rho_squared = rho_squared(ALPHA, users)?;
    let count = plan.count(&name, plan.runs(10_000, 600), |draw| {
        let mut arms = arms.clone();
        for user in 1..=(ANYTIME * users) as u64 {
            arms.push(draw.arm(), draw);
            if user < FIRST || user % STEP != 0 {
                continue;
            }
            let Some(estimate) = arms.look()? else {
                continue;
            };
            let interval = infer(&estimate, Mode::Anytime { rho_squared }, ALPHA)?.interval;
            if interval.is_ok_and(|interval| interval.low > 0.0) {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    table.at_least(3, &name, count, POWER)
}

fn planned(plan: &Plan, table: &mut Table, what: &str, arms: &impl Arms, users: f64) -> Result<()> {
    let name = format!("{what} found with 1.10 × the users, 10 planned looks");
    let boundaries = ten_boundaries()?;
    let count = plan.count(&name, plan.runs(20_000, 1500), |draw| {
        Ok(planned_looks(draw, arms.clone(), PLANNED * users, &boundaries)? == Some(true))
    })?;
    table.at_least(3, &name, count, POWER)
}

fn ten_boundaries() -> Defined<Vec<f64>> {
    let information: Vec<f64> = (1..=LOOKS).map(|look| look as f64 / LOOKS as f64).collect();
    boundaries(&information, ALPHA, SPENDING_EXPONENT, 2)
}

/// Whether the first look that rejects finds the treatment higher; none when no look rejects.
fn planned_looks(
    draw: &mut Draw,
    mut arms: impl Arms,
    users: f64,
    boundaries: &[f64],
) -> Defined<Option<bool>> {
    let mut seen = 0;
    for (boundary, look) in boundaries.iter().zip(1..) {
        let until = (users * f64::from(look) / LOOKS as f64).ceil() as u64;
        for _ in seen..until {
            arms.push(draw.arm(), draw);
        }
        seen = until;
        let Some(estimate) = arms.look()? else {
            continue;
        };
        let boundary = *boundary;
        let interval = infer(&estimate, Mode::Planned { boundary }, ALPHA)?.interval?;
        if interval.low > 0.0 || interval.high < 0.0 {
            return Ok(Some(interval.low > 0.0));
        }
    }
    Ok(None)
}

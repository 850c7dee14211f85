//! Goal 2: identical arms, looked at after every 20 users, are hardly ever told apart.

use anyhow::Result;
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::sequential::randomisation::{self, UnitCounts};
use flywheel_stats::sequential::rho_squared;
use flywheel_stats::sequential::running::Running;
use flywheel_stats::undefined::Defined;

use super::draw::Draw;
use super::runs::Plan;
use super::streams::{Arms, Clusters, Histories, Judged, Rates, Values};
use super::table::Table;

/// The two-sided level of every test and interval here.
pub(super) const ALPHA: f64 = 0.05;
pub(super) const USERS: u64 = 20_000;
/// Users before the first look; the floors of the arms come on top.
pub(super) const FIRST: u64 = 100;
/// Users between two looks.
pub(super) const STEP: u64 = 20;
/// The number of units that sequences are tuned to where no plan says more.
pub(super) const PLANNED: f64 = 5000.0;

/// The share of the treatment in most settings.
const HALF: f64 = 0.5;
/// How often ratings of 1 to 5 are given.
const RATINGS: [f64; 5] = [0.06, 0.12, 0.24, 0.36, 0.22];
const COST_SIGMA: f64 = 1.5;
/// e^(1.5 · 3.09): the 99.9% quantile of earlier costs.
const COST_CAP: f64 = 103.0;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let rate = |rate: f64| Rates::new([rate; 2]);
    ever_rejects(plan, table, "rate .6", &rate(0.6), HALF, PLANNED)?;
    ever_rejects(plan, table, "rate .02", &rate(0.02), HALF, PLANNED)?;
    let ratings = Values::new(|draw| (draw.class(&RATINGS) + 1) as f64, 0.0);
    ever_rejects(plan, table, "ratings 1 to 5", &ratings, HALF, PLANNED)?;
    let cost = Values::new(|draw| draw.lognormal(COST_SIGMA), 0.0);
    ever_rejects(plan, table, "cost, lognormal σ 1.5", &cost, HALF, PLANNED)?;
    let capped = Values::new(|draw| draw.lognormal(COST_SIGMA).min(COST_CAP), 0.0);
    let name = "cost, lognormal σ 1.5, capped at p99.9";
    ever_rejects(plan, table, name, &capped, HALF, PLANNED)?;
    let clusters = Clusters::new(0.6, 10.0, 0.2);
    let name = "rate per request, 10 requests a user, ICC .2";
    ever_rejects(plan, table, name, &clusters, HALF, PLANNED)?;
    let name = "CUPED, half of the variance explained";
    ever_rejects(plan, table, name, &Histories::default(), HALF, PLANNED)?;
    let name = "PPI++ (t), one in five labelled, judge 85% right";
    let labels = Judged::LABELLED * PLANNED;
    ever_rejects(plan, table, name, &Judged::default(), HALF, labels)?;
    // The mean of a small arm and its variance are low together.
    let rare = Values::new(|draw| draw.outcome(0.01), 0.0);
    for (share, name) in [(0.1, "1 to 9"), (0.05, "1 to 19")] {
        let name = format!("a total that 1 unit in 100 has, arms of {name}");
        ever_rejects(plan, table, &name, &rare, share, PLANNED)?;
    }
    let clusters = Clusters::new(0.02, 10.0, 0.2);
    let name = "rate .02 per request, ICC .2, arms of 1 to 19";
    ever_rejects(plan, table, name, &clusters, 0.05, PLANNED)?;
    let heavy = Values::new(|draw| draw.lognormal(2.0), 0.0);
    let name = "cost, lognormal σ 2, arms of 1 to 9";
    ever_rejects(plan, table, name, &heavy, 0.1, PLANNED)?;
    for (name, share, sequence_after) in [
        ("rate .02 by the randomisation e-test", HALF, false),
        ("rate .02 by the e-test, then by the t-mixture", HALF, true),
        ("the same, arms of 1 to 9", 0.1, true),
        ("the same, arms of 1 to 19", 0.05, true),
    ] {
        let name = format!("identical arms told apart: {name}");
        let runs = plan.runs(10_000, 500);
        let count = plan.count(&name, runs, |draw| {
            small_counts(draw, share, sequence_after)
        })?;
        table.at_most(2, &name, count, ALPHA)?;
    }
    Ok(())
}

fn ever_rejects(
    plan: &Plan,
    table: &mut Table,
    name: &str,
    arms: &impl Arms,
    share: f64,
    planned: f64,
) -> Result<()> {
    let name = format!("identical arms told apart: {name}");
    let rho_squared = rho_squared(ALPHA, planned)?;
    let count = plan.count(&name, plan.runs(10_000, 500), |draw| {
        rejects(draw, arms.clone(), share, rho_squared)
    })?;
    table.at_most(2, &name, count, ALPHA)
}

/// Whether any look at the default sequence rejects.
fn rejects(draw: &mut Draw, mut arms: impl Arms, share: f64, rho_squared: f64) -> Defined<bool> {
    let mut running = Running::default();
    for user in 1..=USERS {
        let arm = usize::from(draw.chance(share));
        arms.push(arm, draw);
        if user < FIRST || user % STEP != 0 {
            continue;
        }
        let Some(estimate) = arms.look()? else {
            continue;
        };
        running.push(&infer(&estimate, Mode::Anytime { rho_squared }, ALPHA)?);
        if running.p <= ALPHA {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a rare event is ever told apart, by the test of small counts alone or until there are enough for the sequence.
fn small_counts(draw: &mut Draw, share: f64, sequence_after: bool) -> Defined<bool> {
    let rho_squared = rho_squared(ALPHA, PLANNED)?;
    let mut arms = Rates::new([0.02; 2]);
    for user in 1..=USERS {
        let arm = usize::from(draw.chance(share));
        arms.push(arm, draw);
        if user % STEP != 0 {
            continue;
        }
        let estimate = if sequence_after { arms.look()? } else { None };
        let rejects = if let Some(estimate) = estimate {
            infer(&estimate, Mode::Anytime { rho_squared }, ALPHA)?.p? <= ALPHA
        } else {
            let [a, b] = [0, 1].map(|arm| {
                let [any, not_all] = arms.outcomes(arm);
                UnitCounts {
                    n: any + not_all,
                    any,
                    not_all,
                }
            });
            randomisation::log_e_of_few(a, b, share)? >= -ALPHA.ln()
        };
        if rejects {
            return Ok(true);
        }
    }
    Ok(false)
}

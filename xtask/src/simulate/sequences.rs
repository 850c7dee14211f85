//! Goal 4, its second half: in at least 95% of runs a sequence holds the truth at every look.

use anyhow::Result;
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::paired::PairedCounts;
use flywheel_stats::sequential::empirical_bernstein::{EmpiricalBernstein, TRUNCATION};
use flywheel_stats::sequential::{bernoulli, betting, net_win, rho_squared};
use flywheel_stats::undefined::Defined;

use super::coverage::holds;
use super::draw::Draw;
use super::level::{ALPHA, FIRST, PLANNED, STEP};
use super::runs::Plan;
use super::streams::{Arms, Clusters, Rates, Values};
use super::table::Table;

const USERS: u64 = 10_000;
const PAIRS: u64 = 2000;
const SCORES: u64 = 2000;
/// The hedged sequence looks at all scores again each time.
const BETTING_LOOKS: [usize; 8] = [10, 20, 40, 80, 120, 200, 300, 400];
const GRID: u32 = 100;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let rho_squared = rho_squared(ALPHA, PLANNED)?;
    let modes = [
        ("t-mixture", Mode::Anytime { rho_squared }),
        ("asymptotic", Mode::Asymptotic { rho_squared }),
    ];
    for (name, mode) in modes {
        let rates = Rates::new([0.6, 0.65]);
        differences(plan, table, name, "rates .6 and .65", &rates, 0.05, mode)?;
        let cost = Values::new(|draw| draw.lognormal(1.0), 0.3);
        let what = "costs, lognormal σ 1, .3 apart";
        differences(plan, table, name, what, &cost, 0.3, mode)?;
        let clusters = Clusters::new(0.1, 10.0, 0.2);
        let what = "rates per request of .1, ICC .2";
        differences(plan, table, name, what, &clusters, 0.0, mode)?;
    }
    for rate in [0.02, 0.5] {
        let what = format!("sequence misses the truth: beta mixture, one rate of {rate}");
        let count = plan.count(&what, plan.runs(10_000, 200), |draw| {
            rate_missed(draw, rate)
        })?;
        table.at_most(4, &what, count, ALPHA)?;
    }
    for (win, loss) in [(0.3, 0.2), (0.05, 0.05), (0.45, 0.5)] {
        let what = format!("sequence misses the truth: net win, {win} won and {loss} lost");
        let count = plan.count(&what, plan.runs(10_000, 120), |draw| {
            net_win_missed(draw, win, loss)
        })?;
        table.at_most(4, &what, count, ALPHA)?;
    }
    let what = "sequence misses the truth: empirical Bernstein, scores";
    let count = plan.count(what, plan.runs(20_000, 1000), bernstein_missed)?;
    table.at_most(4, what, count, ALPHA)?;
    let what = "sequence misses the truth: hedged betting, scores";
    let count = plan.count(what, plan.runs(2000, 100), betting_missed)?;
    table.at_most(4, what, count, ALPHA)
}

fn differences(
    plan: &Plan,
    table: &mut Table,
    sequence: &str,
    what: &str,
    arms: &impl Arms,
    truth: f64,
    mode: Mode,
) -> Result<()> {
    let what = format!("sequence misses the truth: {sequence}, {what}");
    let count = plan.count(&what, plan.runs(10_000, 400), |draw| {
        let mut arms = arms.clone();
        for user in 1..=USERS {
            arms.push(draw.arm(), draw);
            if user < FIRST || user % STEP != 0 {
                continue;
            }
            let Some(estimate) = arms.look()? else {
                continue;
            };
            // While the sequence is unbounded it misses nothing.
            let interval = infer(&estimate, mode, ALPHA)?.interval;
            if interval.is_ok_and(|interval| !holds(interval, truth)) {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    table.at_most(4, &what, count, ALPHA)
}

/// After every observation at first, then ever more seldom.
fn is_look(observed: u64) -> bool {
    observed.is_multiple_of((observed / 50).max(1))
}

fn rate_missed(draw: &mut Draw, rate: f64) -> Defined<bool> {
    let mut successes = 0.0;
    for observed in 1..=USERS {
        successes += draw.outcome(rate);
        if !is_look(observed) {
            continue;
        }
        let n = observed as f64;
        if !holds(
            bernoulli::confidence_sequence(successes, n, ALPHA, PLANNED, ALPHA)?,
            rate,
        ) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn net_win_missed(draw: &mut Draw, win: f64, loss: f64) -> Defined<bool> {
    let mut counts = PairedCounts::default();
    for observed in 1..=PAIRS {
        counts.merge(&verdict(draw, win, loss));
        if !is_look(observed) {
            continue;
        }
        let interval = net_win::confidence_sequence(counts, ALPHA, &net_win::BETS)?;
        if !holds(interval, win - loss) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One pair.
pub(super) fn verdict(draw: &mut Draw, win: f64, loss: f64) -> PairedCounts {
    let mut counts = PairedCounts::default();
    match draw.class(&[win, loss, 1.0 - win - loss]) {
        0 => counts.wins = 1,
        1 => counts.losses = 1,
        _ => counts.ties = 1,
    }
    counts
}

/// A judge's scores: .3, .7 or 1, with a mean of .74.
const SCORE_CLASSES: [f64; 3] = [0.2, 0.4, 0.4];
const SCORE_VALUES: [f64; 3] = [0.3, 0.7, 1.0];
const SCORE_MEAN: f64 = 0.74;

fn score(draw: &mut Draw) -> f64 {
    SCORE_VALUES[draw.class(&SCORE_CLASSES)]
}

fn bernstein_missed(draw: &mut Draw) -> Defined<bool> {
    let mut state = EmpiricalBernstein::new(ALPHA, TRUNCATION)?;
    for _ in 0..SCORES {
        state.push(score(draw))?;
        if !holds(state.interval()?, SCORE_MEAN) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn betting_missed(draw: &mut Draw) -> Defined<bool> {
    let mut scores = Vec::new();
    for look in BETTING_LOOKS {
        while scores.len() < look {
            scores.push(score(draw));
        }
        if !holds(
            betting::confidence_interval(&scores, ALPHA, GRID)?,
            SCORE_MEAN,
        ) {
            return Ok(true);
        }
    }
    Ok(false)
}

//! Goal 7: change detectors run at least as long as was asked for before a false alarm, and see a change soon.

use anyhow::Result;
use flywheel_stats::detector::{Detector, HIGHEST_RATE, MULTIPLIERS, baseline_rate, log_threshold};
use flywheel_stats::undefined::Defined;

use super::draw::Draw;
use super::runs::{Count, Plan};
use super::table::Table;

/// One false alarm in 30 days of 10,000 requests; in CI a sooner one, for runs are as long.
const REQUESTS_PER_DAY: f64 = 10_000.0;
const DAYS: f64 = 30.0;
const DAYS_SHORT: f64 = 0.3;

const BASELINE: f64 = 0.02;
/// Requests before the change.
const QUIET: u64 = 5000;
/// Requests after a doubling within which half of all alarms are due.
const MEDIAN_DELAY: u64 = 900;
/// Beyond this many the delay does not matter any more.
const LONGEST_DELAY: u64 = 200_000;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let days = if plan.short { DAYS_SHORT } else { DAYS };
    let threshold = log_threshold(REQUESTS_PER_DAY, days, 1.0)?;
    let runs = plan.runs(1000, 400);
    for rate in [0.01, BASELINE, 0.1] {
        let what = format!("requests to a false alarm, failures of {rate}");
        let lengths = plan.each(&what, runs, |draw| {
            let mut detector = Detector::of_failures(rate, &MULTIPLIERS, HIGHEST_RATE)?;
            let mut observed = 0.0;
            loop {
                observed += 1.0;
                if detector.push_failure(draw.chance(rate))? >= threshold {
                    return Ok(observed);
                }
            }
        })?;
        table.mean_at_least(7, &what, &lengths, threshold.exp().round())?;
    }
    let what = "scores to a false alarm, mean .7";
    let lengths = plan.each(what, runs, |draw| {
        let mut detector = Detector::of_scores(0.7)?;
        let mut observed = 0.0;
        loop {
            observed += 1.0;
            let score = [0.3, 0.7, 0.9, 1.0][draw.class(&[0.3, 0.2, 0.3, 0.2])];
            if detector.push_score(score)? >= threshold {
                return Ok(observed);
            }
        }
    })?;
    table.mean_at_least(7, what, &lengths, threshold.exp().round())?;
    delays(plan, table)
}

/// How soon a doubled rate of failures is seen, with the threshold of 30 days.
fn delays(plan: &Plan, table: &mut Table) -> Result<()> {
    let threshold = log_threshold(REQUESTS_PER_DAY, DAYS, 1.0)?;
    let runs = plan.runs(4000, 300);
    let what = "doubling of 2% failures seen within 900 requests";
    let delays = plan.each(what, runs, |draw| delay(draw, BASELINE, threshold))?;
    let in_time: Vec<bool> = delays.iter().map(|delay| *delay <= MEDIAN_DELAY).collect();
    table.at_least(7, what, Count::of(&in_time), 0.5)?;
    table.note(&format!("median {}", median(delays)));
    let what = "the same with the baseline measured on 10,000 requests: median delay";
    let delays = plan.each(what, runs, |draw| {
        let failures = draw.successes(10_000, BASELINE);
        delay(draw, baseline_rate(failures, 10_000)?, threshold)
    })?;
    table.show(7, what, runs, median(delays).to_string());
    Ok(())
}

/// Requests from the doubling to the alarm, in a stream without a false alarm before.
fn delay(draw: &mut Draw, p0: f64, threshold: f64) -> Defined<u64> {
    let mut detector = Detector::of_failures(p0, &MULTIPLIERS, HIGHEST_RATE)?;
    for _ in 0..QUIET {
        if detector.push_failure(draw.chance(BASELINE))? >= threshold {
            detector.reset();
        }
    }
    for delay in 1..=LONGEST_DELAY {
        if detector.push_failure(draw.chance(2.0 * BASELINE))? >= threshold {
            return Ok(delay);
        }
    }
    Ok(LONGEST_DELAY)
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

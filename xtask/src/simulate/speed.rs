//! Goal 8, its durations: one call of a special function, and all results of an experiment from stored statistics.
//!
//! Their accuracy is held by the reference values and by the tests of the crate. The tests of the project, which also run on
//! slow and busy machines, show the durations without judging them.

mod experiment;

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result};
use flywheel_stats::special::{
    beta, binomial, chi_squared, gamma, lambert, noncentral_t, normal, student_t,
};
use flywheel_stats::undefined::Defined;

use super::runs::Plan;
use super::table::Table;
use experiment::Experiment;

/// Milliseconds.
const LONGEST_CALL: f64 = 1.0;
const LONGEST_ANALYSIS: f64 = 5.0;
/// The quickest of several measurements is what the code takes; more is what else the machine did.
const ROUNDS: usize = 15;
const CALLS: usize = 20;

type Call = fn(f64) -> Defined<f64>;

/// Every special function, over sizes from 2 to its largest.
const CALLS_BY_SIZE: &[(&str, Call, f64)] = &[
    (
        "normal::quantile",
        |size| normal::quantile(0.9 / size),
        1e12,
    ),
    ("ln_gamma", gamma::ln_gamma, 1e12),
    (
        "incomplete_gamma",
        |a| Ok(gamma::incomplete_gamma(a, 1.01 * a)?.1),
        1e9,
    ),
    ("chi_squared::sf", |df| chi_squared::sf(0.99 * df, df), 1e12),
    ("student_t::sf", |df| student_t::sf(2.5, df), 1e12),
    (
        "student_t::upper_quantile",
        |df| student_t::upper_quantile(1e-6, df),
        1e12,
    ),
    (
        "beta::tails",
        |a| Ok(beta::tails(a, 2.0 * a, 0.334, 0.666)?.0),
        1e9,
    ),
    (
        "beta::tails, uneven",
        |a| Ok(beta::tails(0.5, a, 1.0 / a, 1.0 - 1.0 / a)?.0),
        1e9,
    ),
    ("beta::quantile", |a| beta::quantile(0.025, a, 2.0 * a), 1e9),
    (
        "beta::upper_quantile",
        |a| beta::upper_quantile(1e-8, a, 3.0),
        1e9,
    ),
    (
        "binomial::sf",
        |n| binomial::sf((0.51 * n) as u64, n as u64 + 1, 0.5),
        1e9,
    ),
    (
        "noncentral_t::sf",
        |df| noncentral_t::sf(2.0, df, 2.8),
        1e12,
    ),
    ("lambert", lambert::excess_of_lower_branch, 1e12),
];

pub(super) fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let mut slowest = (0.0, String::new());
    for (name, call, largest) in CALLS_BY_SIZE {
        let mut size = 2.0;
        while size <= *largest {
            let value = call(size).with_context(|| format!("`{name}` at {size} has no value"))?;
            anyhow::ensure!(value.is_finite(), "`{name}` at {size} is {value}");
            let took = quickest(CALLS, || {
                black_box(call(black_box(size)).is_ok());
            });
            if took > slowest.0 {
                slowest = (took, format!("{name} at {size:e}"));
            }
            size *= 10.0;
        }
    }
    let what = format!("slowest of {} special functions", CALLS_BY_SIZE.len());
    table.faster_than(&what, slowest.0, LONGEST_CALL, !plan.short);
    table.note(&slowest.1);
    let experiment = Experiment::make(plan.seed)?;
    let metrics = experiment.analyse()?;
    let took = quickest(1, || {
        black_box(black_box(&experiment).analyse().is_ok());
    });
    let what = format!(
        "all results of {metrics} metrics and {} arms",
        experiment.arms()
    );
    table.faster_than(&what, took, LONGEST_ANALYSIS, !plan.short);
    Ok(())
}

/// Milliseconds of one call.
fn quickest(calls: usize, call: impl Fn()) -> f64 {
    let round = || {
        let begun = Instant::now();
        for _ in 0..calls {
            call();
        }
        1e3 * begun.elapsed().as_secs_f64() / calls as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

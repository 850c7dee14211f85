//! Intervals from users: grades, rates per request, and outcomes adjusted for earlier ones.

use anyhow::Result;
use flywheel_stats::accumulate::CrossMoments;
use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::rank::RankedCounts;
use flywheel_stats::special::normal;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{clustered, cuped, ratio};

use super::{BOUNDS, holds};
use crate::simulate::draw::Draw;
use crate::simulate::level::ALPHA;
use crate::simulate::runs::{Count, Plan};
use crate::simulate::table::{Bounds, Cell, Coverage, Table};

const SIZES: [(u64, u64); 3] = [(50, 50), (50, 200), (200, 200)];
const RATES: [f64; 7] = [0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95];

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    brunner_munzel(plan, table)?;
    ratios(plan, table)?;
    clustered_rates(plan, table)?;
    cuped(plan, table)
}

fn runs(plan: &Plan) -> u64 {
    plan.runs(20_000, 1000)
}

/// Ratings from 1 to 5 by where a normal mood falls; the treatment's mood is `shift` higher.
fn brunner_munzel(plan: &Plan, table: &mut Table) -> Result<()> {
    let mut cells = Vec::new();
    for (n_a, n_b) in SIZES {
        for shift in [-2.4, -1.6, -0.8, -0.3, 0.0, 0.3, 0.8, 1.6, 2.4] {
            let classes = [classes(0.0), classes(shift)];
            let truth = theta(&classes);
            let at = format!("θ {truth:.2}, {n_a} and {n_b}");
            let name = format!("Brunner-Munzel {at}");
            let count = plan.count(&name, runs(plan), |draw| {
                let mut graded = |n: u64, classes: &[f64; 5]| {
                    let mut counts = [0; 5];
                    for _ in 0..n {
                        counts[draw.class(classes)] += 1;
                    }
                    counts
                };
                let (a, b) = (graded(n_a, &classes[0]), graded(n_b, &classes[1]));
                let ranked = RankedCounts::from_histograms(&a, &b)?;
                let interval = match ranked.brunner_munzel(ALPHA) {
                    Ok(found) => found.shown,
                    Err(Undefined::ZeroVariance) => ranked.newcombe_interval(ALPHA)?,
                    Err(reason) => return Err(reason),
                };
                Ok(holds(interval, truth))
            })?;
            cells.push(Cell {
                at,
                coverage: Coverage::Simulated(count),
            });
        }
    }
    let what = "Brunner-Munzel, ratings, θ of .07 to .96, 50 or 200 per arm";
    table.coverage(what, &cells, &BOUNDS)
}

/// How often each rating is given.
fn classes(mood: f64) -> [f64; 5] {
    let cuts = [-1.5, -0.7, 0.1, 0.9].map(|cut| normal::cdf(cut - mood));
    [
        cuts[0],
        cuts[1] - cuts[0],
        cuts[2] - cuts[1],
        cuts[3] - cuts[2],
        1.0 - cuts[3],
    ]
}

fn theta(classes: &[[f64; 5]; 2]) -> f64 {
    let [a, b] = classes;
    let mut below = 0.0;
    let mut theta = 0.0;
    for (a, b) in a.iter().zip(b) {
        theta += b * (below + 0.5 * a);
        below += a;
    }
    theta
}

/// The interval of a single look, of runs in which it exists.
fn single_look(estimate: Defined<Estimate>, truth: f64) -> Defined<Option<bool>> {
    match estimate {
        Ok(estimate) => {
            let interval = infer(&estimate, Mode::Fixed, ALPHA)?.interval?;
            Ok(Some(holds(interval, truth)))
        }
        Err(Undefined::ZeroVariance) => Ok(None),
        Err(reason) => Err(reason),
    }
}

/// Every pair of a rate and the same, or one nearer to ½.
fn pairs() -> impl Iterator<Item = (f64, f64)> {
    let near = |rate: f64| if rate < 0.5 { rate + 0.05 } else { rate - 0.05 };
    RATES
        .into_iter()
        .flat_map(move |rate| [(rate, rate), (rate, near(rate))])
}

fn of_pairs(
    plan: &Plan,
    table: &mut Table,
    what: &str,
    (sizes, bounds): (&[(u64, u64)], &Bounds),
    compare: impl Fn(&mut Draw, [u64; 2], [f64; 2]) -> Defined<Estimate> + Sync,
) -> Result<()> {
    let mut cells = Vec::new();
    let mut undefined = 0.0f64;
    for (n_a, n_b) in sizes.iter().copied() {
        for (rate_a, rate_b) in pairs() {
            let at = format!("{rate_a} of {n_a} and {rate_b:.2} of {n_b}");
            let found = plan.each(&format!("{what} {at}"), runs(plan), |draw| {
                let estimate = compare(draw, [n_a, n_b], [rate_a, rate_b]);
                single_look(estimate, rate_b - rate_a)
            })?;
            let held: Vec<bool> = found.iter().copied().flatten().collect();
            undefined = undefined.max(1.0 - held.len() as f64 / found.len() as f64);
            cells.push(Cell {
                at,
                coverage: Coverage::Simulated(Count::of(&held)),
            });
        }
    }
    table.coverage(what, &cells, bounds)?;
    if undefined > 0.0 {
        table.note(&format!(
            "up to {undefined:.4} of runs have no interval, for nothing varies in them"
        ));
    }
    Ok(())
}

/// Rates per request, of users who send ten on average.
fn ratios(plan: &Plan, table: &mut Table) -> Result<()> {
    let even = |draw: &mut Draw| 1 + (19.0 * draw.uniform()) as u64;
    let uneven = |draw: &mut Draw| draw.requests(10.0);
    let known = |least, reason| Bounds {
        known: Some((least, reason)),
        ..BOUNDS
    };
    let what = "ratio, 1 to 19 requests a user, ICC .05, 50 or 200 users in both arms";
    let equal = [SIZES[0], SIZES[2]];
    of_ratios(plan, table, what, (&equal, &BOUNDS), even, 0.05)?;
    let what = "ratio, the same, 50 against 200 users";
    let reason =
        "a few users of 50 decide a rate near 0 or 1, and a larger arm does not make up for it";
    let settings = (&SIZES[1..2], &known(0.935, reason));
    of_ratios(plan, table, what, settings, even, 0.05)?;
    let what = "ratio, geometric requests, ICC .2, 50 or 200 users";
    let reason = "users with ten times the requests of others leave few independent outcomes among 50 users; \
                  with 200 in both arms the goal is kept";
    of_ratios(
        plan,
        table,
        what,
        (&SIZES, &known(0.900, reason)),
        uneven,
        0.2,
    )
}

fn of_ratios(
    plan: &Plan,
    table: &mut Table,
    what: &str,
    settings: (&[(u64, u64)], &Bounds),
    requests: impl Fn(&mut Draw) -> u64 + Sync,
    correlation: f64,
) -> Result<()> {
    of_pairs(plan, table, what, settings, |draw, sizes, rates| {
        let mut arm = |n: u64, rate: f64| {
            let mut users = CrossMoments::<2>::default();
            for _ in 0..n {
                let requests = requests(draw);
                let successes = draw.alike_successes(requests, rate, correlation);
                users.push(&[successes as f64, requests as f64]);
            }
            users
        };
        let (a, b) = (arm(sizes[0], rates[0]), arm(sizes[1], rates[1]));
        ratio::difference(&a, &b)
    })
}

/// One rate over the requests of users, as a week has it.
fn clustered_rates(plan: &Plan, table: &mut Table) -> Result<()> {
    let mut cells = Vec::new();
    for users in [30, 50, 200] {
        for rate in RATES {
            let at = format!("{rate} of {users}");
            let count = plan.count(&format!("clustered rate {at}"), runs(plan), |draw| {
                let mut moments = CrossMoments::<2>::default();
                for _ in 0..users {
                    let requests = draw.requests(10.0);
                    let successes = draw.alike_successes(requests, rate, 0.2);
                    moments.push(&[successes as f64, requests as f64]);
                }
                Ok(holds(clustered::rate_interval(&moments, ALPHA)?, rate))
            })?;
            cells.push(Cell {
                at,
                coverage: Coverage::Simulated(count),
            });
        }
    }
    let what = "one rate, geometric requests, ICC .2, 30 to 200 users";
    let reason =
        "users with ten times the requests of others leave few independent outcomes among 50 users";
    let bounds = Bounds {
        known: Some((0.915, reason)),
        ..BOUNDS
    };
    table.coverage(what, &cells, &bounds)
}

/// Users who succeed or not, with how often they did before the experiment, at the control's rate in both arms. Any two
/// outcomes of a user have a correlation of about ½.
fn cuped(plan: &Plan, table: &mut Table) -> Result<()> {
    let what = "CUPED, rates of .05 to .95, a history of ten, 50 or 200 users";
    let settings = (SIZES.as_slice(), &BOUNDS);
    of_pairs(plan, table, what, settings, |draw, sizes, rates| {
        let mut arm = |n: u64, rate: f64| {
            let mut users = CrossMoments::<2>::default();
            for _ in 0..n {
                let usual = draw.uniform();
                let mut outcome = |rate: f64| match draw.chance(0.7) {
                    true => f64::from(u8::from(usual < rate)),
                    false => draw.outcome(rate),
                };
                let before: f64 = (0..10).map(|_| outcome(rates[0])).sum();
                users.push(&[outcome(rate), before / 10.0]);
            }
            users
        };
        let (a, b) = (arm(sizes[0], rates[0]), arm(sizes[1], rates[1]));
        cuped::difference(&a, &b).map(|adjusted| adjusted.estimate)
    })
}

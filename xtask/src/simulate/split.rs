//! Goal 6: a traffic split as planned is hardly ever called broken, and a broken one soon is.

use anyhow::Result;
use flywheel_stats::srm;
use flywheel_stats::undefined::Defined;

use super::draw::Draw;
use super::runs::{Count, Plan};
use super::table::Table;

const USERS: u64 = 100_000;
/// Users between two looks.
const STEP: u64 = 10;
const FALSE_ALARMS: f64 = 0.001;
const FOUND_BY: u64 = 3200;
const FOUND: f64 = 0.90;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let plans: [(&str, &[f64]); 3] = [
        ("50/50", &[0.5, 0.5]),
        ("90/10", &[0.9, 0.1]),
        ("40/30/30", &[0.4, 0.3, 0.3]),
    ];
    for (name, shares) in plans {
        let what = format!("planned split called broken within 100,000 users: {name}");
        let count = plan.count(&what, plan.runs(10_000, 60), |draw| {
            Ok(alarm(draw, shares, shares, USERS)?.is_some())
        })?;
        table.at_most(6, &what, count, FALSE_ALARMS)?;
    }
    let what = "55/45 instead of 50/50 found within 3,200 users";
    let found = plan.each(what, plan.runs(10_000, 1000), |draw| {
        alarm(draw, &[0.55, 0.45], &[0.5, 0.5], USERS)
    })?;
    let in_time: Vec<bool> = found
        .iter()
        .map(|user| user.is_some_and(|user| user <= FOUND_BY))
        .collect();
    table.at_least(6, what, Count::of(&in_time), FOUND)?;
    let mut users: Vec<u64> = found
        .into_iter()
        .map(|user| user.unwrap_or(USERS))
        .collect();
    users.sort_unstable();
    if let Some(median) = users.get(users.len() / 2) {
        table.note(&format!("half of all after {median} users"));
    }
    Ok(())
}

/// The user at whom the alarm is raised.
fn alarm(draw: &mut Draw, shares: &[f64], planned: &[f64], users: u64) -> Defined<Option<u64>> {
    let mut counts = vec![0; shares.len()];
    for user in 1..=users {
        counts[draw.class(shares)] += 1;
        if user % STEP == 0 && srm::is_broken(&counts, planned)? {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

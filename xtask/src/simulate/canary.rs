//! Goal 5: a canary leaves identical versions alone, at any look and with any share of ties, and finds bad ones soon.

use anyhow::Result;
use flywheel_stats::canary::{Canary, Circumstances, Rule, Verdict};
use flywheel_stats::paired::PairedCounts;
use flywheel_stats::undefined::Defined;

use super::draw::Draw;
use super::runs::{Count, Plan};
use super::sequences::verdict;
use super::table::Table;

/// One window of 24 hours, and seven by which it may be extended.
const WINDOWS: u64 = 8;
const FALSE_ALERTS: f64 = 0.05;
const FALSE_PROMOTIONS: f64 = 0.01;
/// Pairs within which a version that wins 5% and loses 25% is alerted on, in this share of runs.
const DETECTED_BY: u64 = 110;
const DETECTED: f64 = 0.90;
/// Looks in a window that is looked at every hour.
const HOURS: u64 = 24;

/// How often new pairs are judged.
#[derive(Clone, Copy)]
enum Looks {
    EveryPair,
    EveryHour,
    AtTheClose,
}

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    for pairs in [50, 200, 1000] {
        for decisive in [0.1, 0.25, 0.45, 0.5] {
            identical(plan, table, decisive, pairs, WINDOWS, Looks::EveryPair)?;
        }
    }
    identical(plan, table, 0.45, 5000, 1, Looks::EveryPair)?;
    identical(plan, table, 0.45, 200, WINDOWS, Looks::EveryHour)?;
    identical(plan, table, 0.45, 200, WINDOWS, Looks::AtTheClose)?;
    detected(
        plan,
        table,
        "a version that wins 5% and loses 25%",
        |draw| verdict(draw, 0.05, 0.25),
    )?;
    // Answers as good as before, when there is one: wins 5% and loses 5% + 20% in all.
    let what = "a version that fails in 20% and else wins and loses 5%";
    detected(plan, table, what, |draw| match draw.chance(0.2) {
        true => PairedCounts {
            losses: 1,
            ..PairedCounts::default()
        },
        false => verdict(draw, 0.0625, 0.0625),
    })
}

/// Two versions of which each wins this share of pairs.
fn identical(
    plan: &Plan,
    table: &mut Table,
    share: f64,
    pairs: u64,
    windows: u64,
    looks: Looks,
) -> Result<()> {
    let schedule = match looks {
        Looks::EveryPair => "every pair",
        Looks::EveryHour => "every hour",
        Looks::AtTheClose => "its close",
    };
    let percent = 100.0 * share;
    let name = format!("{percent}/{percent}, {windows} × {pairs} pairs, look at {schedule}");
    // Long canaries get fewer runs, so that none takes much longer than the others.
    let short = 400.min(400_000 / (pairs * windows));
    let ends = plan.each(&name, plan.runs(10_000, short), |draw| {
        end(draw, share, pairs, windows, looks)
    })?;
    let ended = |verdict| -> Count {
        let ended: Vec<bool> = ends.iter().map(|end| *end == verdict).collect();
        Count::of(&ended)
    };
    let what = format!("identical versions alerted: {name}");
    table.at_most(5, &what, ended(Verdict::Alert), FALSE_ALERTS)?;
    let what = format!("identical versions promoted: {name}");
    table.at_most(5, &what, ended(Verdict::Promote), FALSE_PROMOTIONS)?;
    if pairs == Rule::default().promote_pairs && share == 0.5 {
        // The test below enumerates every outcome.
        table.falls_short(
            "exactly .0107, for lack of ties and with seven extensions of as few pairs as a promotion takes; \
             .0046 at the first close; the guarantee is .025",
        );
    }
    Ok(())
}

fn circumstances(window_closes: bool) -> Circumstances {
    Circumstances {
        window_closes,
        guardrails_pass: true,
        missing_share: 0.0,
        judge_healthy: true,
    }
}

/// How a canary ends that is extended until it has an answer, or for the last time.
fn end(draw: &mut Draw, share: f64, pairs: u64, windows: u64, looks: Looks) -> Defined<Verdict> {
    let mut canary = Canary::new(Rule::default())?;
    let mut last = Verdict::Watching;
    for _ in 0..windows {
        let mut new = PairedCounts::default();
        for pair in 1..=pairs {
            new.merge(&verdict(draw, share, share));
            let closes = pair == pairs;
            let is_look = match looks {
                Looks::EveryPair => true,
                Looks::EveryHour => pair * HOURS / pairs != (pair - 1) * HOURS / pairs,
                Looks::AtTheClose => false,
            };
            if !is_look && !closes {
                continue;
            }
            last = canary.push(std::mem::take(&mut new), circumstances(closes))?;
            if matches!(last, Verdict::Alert | Verdict::Promote) {
                return Ok(last);
            }
        }
    }
    Ok(last)
}

/// A bad version, looked at after every pair.
fn detected(
    plan: &Plan,
    table: &mut Table,
    what: &str,
    pair: impl Fn(&mut Draw) -> PairedCounts + Sync,
) -> Result<()> {
    let name = format!("alert within {DETECTED_BY} pairs: {what}");
    let count = plan.count(&name, plan.runs(20_000, 1500), |draw| {
        let mut canary = Canary::new(Rule::default())?;
        for _ in 0..DETECTED_BY {
            if canary.push(pair(draw), circumstances(false))? == Verdict::Alert {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    table.at_least(5, &name, count, DETECTED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The probability that identical versions which never tie are promoted, by all counts of wins. What a canary will say
    /// depends on those and on whether its evidence has ever sufficed.
    fn promotions(pairs: u64, windows: u64) -> f64 {
        let sufficient = -Rule::default().win_alpha.ln();
        let mut promoted = 0.0;
        let mut canaries = vec![(Canary::new(Rule::default()).unwrap(), 1.0)];
        for pair in 1..=pairs * windows {
            let mut next = BTreeMap::new();
            for (canary, probability) in canaries {
                for wins in [0, 1] {
                    let mut canary = canary;
                    let new = PairedCounts {
                        wins,
                        losses: 1 - wins,
                        ties: 0,
                    };
                    let closes = pair.is_multiple_of(pairs);
                    match canary.push(new, circumstances(closes)).unwrap() {
                        Verdict::Alert => {}
                        Verdict::Promote => promoted += 0.5 * probability,
                        _ => {
                            let suffices = canary.best_log_e_win() >= sufficient;
                            let key = (canary.counts().wins, suffices);
                            next.entry(key).or_insert((canary, 0.0)).1 += 0.5 * probability;
                        }
                    }
                }
            }
            canaries = next.into_values().collect();
        }
        promoted
    }

    #[test]
    fn promotions_without_ties_are_what_the_note_says() {
        for (windows, expected) in [(1, 0.0046), (WINDOWS, 0.0107)] {
            let found = promotions(50, windows);
            assert!((found - expected).abs() < 5e-5, "{windows}: {found}");
        }
    }
}

//! What is only a hint: whether the effect changes with time, and how it differs between groups of units.

use std::collections::BTreeMap;

use flywheel_core::metric::MetricKind;
use flywheel_core::plan::{Part, Reading};
use flywheel_stats::multiplicity::benjamini_hochberg;
use flywheel_stats::novelty;
use flywheel_stats::undefined::Undefined;
use flywheel_storage::statistics::UnitSums;

use super::compare::{self, Comparing};
use super::epochs::{Parts, constant, difference};
use super::{NoveltyReadout, SegmentReadout};

/// Units of each side below which a segment is not shown.
const FEWEST_IN_SEGMENT: i64 = 100;

pub(super) fn novelty(comparing: &Comparing<'_>) -> Vec<NoveltyReadout> {
    let place = |part: Part| {
        let is_it = |reading: &Reading| reading.part == part;
        comparing.readings.iter().position(is_it)
    };
    let (Some(early), Some(late)) = (place(Part::Early), place(Part::Late)) else {
        return Vec::new();
    };
    // Totals of two windows differ with their length.
    if comparing.metric_of(early).kind == MetricKind::Count {
        return Vec::new();
    }
    comparing
        .treatments()
        .filter_map(|arm| {
            let estimate = |reading| {
                comparing.may_look(reading, arm, None).ok()?;
                comparing.total(reading, arm).ok()
            };
            let (first, second) = (estimate(early)?, estimate(late)?);
            let change = novelty::halves(&first, &second, comparing.experiment.plan.alpha).ok()?;
            Some(NoveltyReadout {
                arm: comparing.name(arm),
                early: first.value,
                late: second.value,
                p: change.p,
                is_flagged: change.p < novelty::FLAG_BELOW,
            })
        })
        .collect()
}

/// Within epochs, because the arms' shares and the segments' change with time.
pub(super) fn segments(comparing: &Comparing<'_>) -> Vec<SegmentReadout> {
    let experiment = comparing.experiment;
    let mut sums: BTreeMap<(String, usize), BTreeMap<usize, UnitSums>> = BTreeMap::new();
    for ((epoch, arm), found) in &comparing.statistics.arms {
        for ((_, segment), part) in &found.segments {
            let of_arm = sums.entry((segment.clone(), *arm)).or_default();
            of_arm.entry(*epoch).or_default().add(part);
        }
    }
    let mut found = Vec::new();
    for ((segment, arm), own) in &sums {
        let control = sums.get(&(segment.clone(), comparing.control));
        let Some(control) = control.filter(|_| *arm != comparing.control) else {
            continue;
        };
        // Segments have no days, and what the others do after nobody is in an arm any more is of another time.
        if comparing.was_out(*arm) {
            continue;
        }
        let both: Vec<usize> = own
            .keys()
            .filter(|e| control.contains_key(e))
            .copied()
            .collect();
        let units = |epochs: &BTreeMap<usize, UnitSums>| -> i64 {
            both.iter()
                .filter_map(|epoch| epochs.get(epoch))
                .map(|sums| sums.n)
                .sum()
        };
        if units(own).min(units(control)) < FEWEST_IN_SEGMENT {
            continue;
        }
        let mut parts = Parts::default();
        for (control, own) in both.iter().filter_map(|e| control.get(e).zip(own.get(e))) {
            match difference(control, own) {
                Ok(estimate) => parts.varying.push(estimate),
                Err(Undefined::ZeroVariance) => parts.constant.extend(constant(control, own)),
                Err(_) => {}
            }
        }
        let pooled = parts.pool();
        let look = pooled.and_then(|pooled| compare::one_look(&pooled, experiment.plan.alpha));
        let Ok(look) = look else { continue };
        let (Ok(interval), Ok(p)) = (look.interval, look.p) else {
            continue;
        };
        found.push(SegmentReadout {
            segment: segment.clone(),
            arm: comparing.name(*arm),
            units: (units(own) + units(control)) as f64,
            difference: look.estimate,
            low: interval.low,
            high: interval.high,
            p,
        });
    }
    let p_values: Vec<f64> = found.iter().map(|segment| segment.p).collect();
    if let Ok(adjusted) = benjamini_hochberg(&p_values) {
        for (segment, p) in found.iter_mut().zip(adjusted) {
            segment.p = p;
        }
    }
    found
}

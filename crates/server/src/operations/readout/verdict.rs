//! One headline, one reason, one next step.

use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::metric::Metric;
use flywheel_core::name::ArmName;
use flywheel_core::plan::{Effect, ReadingMode};
use flywheel_stats::decision::{self, ABORT_ALPHA, Decision, Guardrail};
use flywheel_storage::statistics::ExperimentStatistics;
use jiff::Timestamp;

use super::compare::Comparing;
use super::told::{amount, guardrails, holds, units_of_look, violated, violation};
use super::{
    ArmUnits, ArmValue, CheckState, Comparison, DataCheck, Finding, GuardrailState, MetricReadout,
    MetricRole, Verdict, VerdictState, oriented, outlook, words,
};

const TURNED: &str = " The values of now point the other way.";
const CONTRADICT: &str = " Days contradict each other: the effect changes.";

/// What a verdict follows from.
pub(super) struct Evidence<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) statistics: &'a ExperimentStatistics,
    pub(super) checks: &'a [DataCheck],
    pub(super) metrics: &'a [MetricReadout],
    pub(super) arms: &'a [ArmUnits],
    pub(super) days: u32,
    /// Now, or the experiment's end.
    pub(super) until: Timestamp,
    pub(super) now: Timestamp,
}

fn said(state: VerdictState, headline: &str, reason: String, next: &str) -> Verdict {
    Verdict {
        state,
        arm: None,
        headline: headline.to_owned(),
        reason,
        next: next.to_owned(),
        may_promote: false,
    }
}

/// The verdict. Of an experiment that has ended nothing is left to do.
pub(super) fn verdict(evidence: &Evidence<'_>) -> Verdict {
    let verdict = with_holdout(evidence.experiment, now(evidence));
    if !evidence.experiment.status.has_ended() {
        return verdict;
    }
    let decision = evidence.experiment.decision.as_ref();
    let promoted = decision.and_then(|decision| decision.promoted.as_ref());
    Verdict {
        next: match promoted {
            Some(arm) => format!("It has ended: {arm} was promoted."),
            None => "It has ended.".to_owned(),
        },
        may_promote: false,
        headline: match verdict.state {
            VerdictState::Collecting => "It ended before there was enough to judge.".to_owned(),
            _ => verdict.headline,
        },
        ..verdict
    }
}

/// An arm that follows its environment is deployed there already: if it is better, what is left is to end the holdout.
fn with_holdout(experiment: &Experiment, verdict: Verdict) -> Verdict {
    let said_of = verdict.arm.as_ref();
    let mut compared = experiment.treatments();
    let is_compared = compared
        .any(|arm| arm.manifest.is_none() && said_of.is_none_or(|said_of| *said_of == arm.name));
    if is_compared && matches!(verdict.state, VerdictState::Abort | VerdictState::Worse) {
        return Verdict {
            next: format!(
                "What {} serves is worse than what the holdout keeps: `flywheel rollback {}` takes it back, and ends the holdout.",
                experiment.environment, experiment.app
            ),
            ..verdict
        };
    }
    let arm = verdict.arm.as_ref().and_then(|arm| experiment.arm(arm));
    if !verdict.may_promote || arm.is_none_or(|arm| arm.manifest.is_some()) {
        return verdict;
    }
    Verdict {
        next: format!(
            "What {} serves holds: `flywheel experiment stop {}` gives it to the holdout too.",
            experiment.environment, experiment.name
        ),
        may_promote: false,
        ..verdict
    }
}

/// What forbids a verdict comes first.
fn now(evidence: &Evidence<'_>) -> Verdict {
    let name = &evidence.experiment.name;
    if evidence.experiment.status == ExperimentStatus::Draft {
        return said(
            VerdictState::Draft,
            "Not started.",
            outlook::of_draft(&evidence.experiment.plan),
            &format!("`flywheel experiment start {name}` begins and freezes the plan."),
        );
    }
    if let Some(share) = evidence.statistics.rebuilt {
        return said(
            VerdictState::Rebuilding,
            "Statistics are being made again.",
            format!("{:.0}% of the events are taken in.", share * 100.0),
            "Look again in a moment.",
        );
    }
    if let Some(check) = evidence.failed() {
        return said(
            VerdictState::Invalid,
            &format!("Invalid: {}.", check.name),
            format!(
                "{}. Do not use the numbers below.",
                capitalised(&check.detail)
            ),
            "Find the cause, stop this experiment, and start another with a new name.",
        );
    }
    if let Some(verdict) = evidence.violated() {
        return verdict;
    }
    let primary = evidence
        .metrics
        .iter()
        .find(|m| m.role == MetricRole::Primary);
    let Some(primary) = primary else {
        return said(
            VerdictState::Unplanned,
            "No verdict: no primary metric was planned.",
            "The metrics below are shown and decide nothing.".to_owned(),
            "Make an experiment with `--primary` and `--mde` to get one.",
        );
    };
    if let Some(verdict) = evidence.collecting(primary) {
        return verdict;
    }
    evidence.decided(primary)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

impl Evidence<'_> {
    /// The check that forbids every verdict, if one does.
    fn failed(&self) -> Option<&DataCheck> {
        let mut checks = self.checks.iter();
        checks.find(|check| check.state == CheckState::Failed)
    }

    fn effect(&self, base: Option<f64>) -> Option<f64> {
        let plan = &self.experiment.plan;
        let base = plan.baseline.as_ref().map(|found| found.mean).or(base);
        let effect = plan.mde?;
        match effect {
            Effect::Absolute(value) => Some(value),
            Effect::Relative(_) => base.map(|base| effect.absolute(base)),
        }
    }

    fn outlook(&self, primary: &MetricReadout) -> String {
        outlook::outlook(self.experiment, self.statistics, primary, self.until)
    }

    fn guardrails(&self) -> impl Iterator<Item = (&MetricReadout, &Comparison)> {
        guardrails(self.metrics)
    }

    fn violated(&self) -> Option<Verdict> {
        let (metric, found) = violated(self.experiment, self.metrics).next()?;
        let mut others = self.experiment.treatments();
        let others_go_on = others.any(|arm| arm.weight > 0 && arm.name != found.arm);
        let (headline, reason) = violation(metric, found);
        Some(Verdict {
            arm: Some(found.arm.clone()),
            ..said(
                VerdictState::Abort,
                &headline,
                reason,
                match others_go_on {
                    true => "The arm is being stopped for this, and the others go on.",
                    false => "The experiment is being stopped for this; keep the control.",
                },
            )
        })
    }

    /// The comparisons of arms that no guardrail has stopped.
    fn compared<'r>(
        &'r self,
        primary: &'r MetricReadout,
    ) -> impl Iterator<Item = &'r Comparison> + Clone {
        let all = primary.comparisons.iter();
        // If nobody is in any of them any more, what they came to is all there is.
        let is_any_served = all.clone().any(|found| self.is_served(&found.arm));
        all.filter(move |found| !is_any_served || self.is_served(&found.arm))
    }

    /// Whether an arm is still filled, or the one that others are compared with.
    fn is_served(&self, name: &ArmName) -> bool {
        let is_filled = self.experiment.arm(name).is_some_and(|arm| arm.weight > 0);
        let is_control = *name == self.experiment.plan.control;
        (is_filled || is_control) && !self.experiment.is_stopped(name)
    }

    /// The values of arms that no guardrail has stopped.
    fn values<'r>(&'r self, primary: &'r MetricReadout) -> impl Iterator<Item = &'r ArmValue> {
        let all = primary.arms.iter();
        all.filter(|value| self.is_served(&value.arm))
    }

    fn collecting(&self, primary: &MetricReadout) -> Option<Verdict> {
        let floor = self.experiment.plan.floor;
        let with_value = |arm: &ArmValue| u64::try_from(arm.sums.n).unwrap_or(0);
        let fewest = self.values(primary).map(with_value).min().unwrap_or(0);
        let cannot = self.compared(primary).find(|found| {
            // Small counts are judged by their own test.
            let is_judged =
                found.small_counts.is_some() && (found.p.is_some() || found.decided_on.is_some());
            found.undefined.is_some() && found.low.is_none() && !is_judged
        });
        if fewest >= floor && cannot.is_none() {
            return None;
        }
        let counts: Vec<String> = primary
            .arms
            .iter()
            .map(|arm| format!("{} {}", arm.arm, words::count(arm.sums.n as f64)))
            .collect();
        let cannot = cannot.filter(|_| fewest >= floor);
        let reason = match cannot {
            Some(found) => format!(
                "{}{}. {}",
                match primary.comparisons.len() {
                    1 => String::new(),
                    _ => format!("{}: ", found.arm),
                },
                found.undefined.as_deref().unwrap_or_default(),
                self.outlook(primary)
            ),
            None => format!(
                "{} an outcome ({}); from {} per arm on there is something to judge. {}",
                match primary.arms.iter().map(with_value).sum() {
                    1 => "1 unit has".to_owned(),
                    n => format!("{} have", words::plural(n, "unit")),
                },
                counts.join(", "),
                words::count(floor as f64),
                self.outlook(primary)
            ),
        };
        Some(said(
            VerdictState::Collecting,
            "Collecting.",
            capitalised(&reason),
            match cannot {
                // A difference without a spread: no small count, and no interval of any look.
                Some(found) if found.difference.is_some() && found.standard_error.is_none() => {
                    "Values that are all alike within the arms decide nothing: let it run only if that may change."
                }
                _ => self.go_on(),
            },
        ))
    }

    /// The day of the last look, once every arm had one.
    fn decided_on<'r>(&'r self, primary: &'r MetricReadout) -> Option<&'r str> {
        let days: Option<Vec<&str>> = self
            .compared(primary)
            .map(|found| found.decided_on.as_deref())
            .collect();
        days?.into_iter().max()
    }

    /// The units behind all comparisons and the time they took.
    fn behind(&self, primary: &MetricReadout) -> String {
        let looks: Option<Vec<String>> = self.compared(primary).map(units_of_look).collect();
        if let Some(mut looks) = looks.filter(|looks| !looks.is_empty()) {
            looks.dedup();
            return looks.join("; ");
        }
        let counts: Vec<String> = self
            .values(primary)
            .map(|arm| words::count(arm.sums.n as f64))
            .collect();
        format!(
            "{} units, {}",
            counts.join(" + "),
            words::plural(u64::from(self.days), "day")
        )
    }

    /// Everything that is needed before an arm may be promoted, apart from being better.
    fn missing(&self, arm: &ArmName) -> Vec<String> {
        let mut missing = Vec::new();
        let minimum = self.experiment.plan.minimum_days;
        if self.days < minimum {
            missing.push(format!("{} of {minimum} days are over", self.days));
        }
        for (metric, found) in self.guardrails() {
            if found.arm == *arm && !holds(found) {
                missing.push(format!("guardrail {} is not settled", metric.metric.name));
            }
        }
        missing
    }

    /// Checks of who is compared, or when, that warn.
    fn doubts(&self) -> String {
        let of_data = [
            "units with an outcome",
            "delay of outcomes",
            "covariate balance",
        ];
        let is_doubt = |check: &&DataCheck| {
            check.state == CheckState::Warning && of_data.contains(&check.name)
        };
        let names: Vec<&str> = self
            .checks
            .iter()
            .filter(is_doubt)
            .map(|check| check.name)
            .collect();
        match names.is_empty() {
            true => String::new(),
            false => format!(" Look at the checks first: {} warns.", names.join(", ")),
        }
    }

    /// A metric that became worse, if one did. What a guardrail's margin allows, the plan has accepted.
    fn deteriorated(&self, comparing: &Comparing<'_>, arm: usize) -> Option<&Metric> {
        let metrics = &self.experiment.plan.metrics;
        let alpha = ABORT_ALPHA / metrics.len().max(1) as f64;
        let name = &self.experiment.arms.get(arm)?.name;
        let is_allowed = |metric: &Metric| {
            self.guardrails().any(|(guarded, found)| {
                guarded.metric.name == metric.name
                    && found.arm == *name
                    && found.guardrail == Some(GuardrailState::Holds)
            })
        };
        metrics
            .iter()
            .enumerate()
            .filter(|(_, metric)| !is_allowed(metric))
            .find(|(place, _)| comparing.has_deteriorated(*place, arm, alpha))
            .map(|(_, metric)| metric)
    }

    fn decided(&self, primary: &MetricReadout) -> Verdict {
        let plan = &self.experiment.plan;
        let better = self
            .compared(primary)
            .filter(|found| found.finding == Finding::Better)
            .max_by(|one, other| {
                let of = |found: &Comparison| {
                    oriented(primary.metric.direction, found.difference.unwrap_or(0.0))
                };
                of(one).total_cmp(&of(other))
            });
        if plan.is_aa {
            return self.same_arms(primary);
        }
        if let Some(found) = better {
            return self.better(primary, found);
        }
        let all = |is_so: &dyn Fn(&Comparison) -> bool| {
            let mut compared = self.compared(primary);
            compared.clone().next().is_some() && compared.all(is_so)
        };
        let shown: Vec<String> = self
            .compared(primary)
            .map(|found| format!("{} {}", found.arm, amount(&primary.metric, found)))
            .collect();
        let unstable = self.compared(primary).any(|found| found.is_unstable);
        let figures = format!(
            "{}; {}.{}{}",
            shown.join("; "),
            self.behind(primary),
            if unstable { CONTRADICT } else { "" },
            self.doubts()
        );
        if all(&|found| found.finding == Finding::Worse) {
            return said(
                VerdictState::Worse,
                "The control is better.",
                figures,
                "Stop and keep the control.",
            );
        }
        let base = primary.arms.iter().find(|arm| arm.arm == plan.control);
        let effect = self.effect(base.and_then(|arm| arm.value));
        let is_inside = |found: &Comparison| {
            let ends = found.low.zip(found.high).zip(effect);
            ends.is_some_and(|((low, high), effect)| low > -effect && high < effect)
        };
        if let Some(effect) = effect.filter(|_| all(&is_inside) && !unstable) {
            return said(
                VerdictState::NoMeaningfulDifference,
                "No meaningful difference.",
                format!(
                    "{figures} Differences of {} and more are ruled out.",
                    words::difference(&primary.metric, effect).trim_start_matches('+')
                ),
                "Stop, and choose by cost or simplicity.",
            );
        }
        if self.decided_on(primary).is_some() {
            return ended(
                &figures,
                effect.map(|effect| words::difference(&primary.metric, effect)),
            );
        }
        said(
            VerdictState::NoVerdict,
            "No verdict yet.",
            match self.are_any_compared() {
                true => format!("{figures} {}", self.outlook(primary)),
                false => figures,
            },
            self.go_on(),
        )
    }

    /// Whether somebody is in the control, and in an arm beside it.
    fn are_any_compared(&self) -> bool {
        let is_filled = |name: &ArmName| self.experiment.arm(name).is_some_and(|a| a.weight > 0);
        let mut others = self.experiment.treatments();
        is_filled(&self.experiment.plan.control) && others.any(|arm| arm.weight > 0)
    }

    /// What to do while it goes on.
    fn go_on(&self) -> &'static str {
        match self.experiment.plan.mode {
            _ if !self.are_any_compared() => {
                "Nobody is in two arms that could be compared any more: stop, or give them weight."
            }
            ReadingMode::Fixed | ReadingMode::Hybrid => {
                "Let it run to its planned number of units."
            }
            ReadingMode::Anytime | ReadingMode::Planned => "Let it run; looking costs nothing.",
        }
    }

    fn same_arms(&self, primary: &MetricReadout) -> Verdict {
        let differs = primary
            .comparisons
            .iter()
            .any(|found| found.finding != Finding::Open);
        if differs {
            return said(
                VerdictState::Invalid,
                "Invalid: an A/A test shows a difference.",
                format!(
                    "All arms serve the same, and {} of them differ beyond chance.",
                    primary.metric.name
                ),
                "Look for what the arms do not share: time-outs, caches, logging.",
            );
        }
        said(
            VerdictState::NoVerdict,
            "No difference was found, as it should be.",
            format!("All arms serve the same; {}.", self.behind(primary)),
            "Stop it when you have seen enough.",
        )
    }

    fn better(&self, primary: &MetricReadout, found: &Comparison) -> Verdict {
        let plan = &self.experiment.plan;
        let comparing = Comparing::new(self.experiment, self.statistics, self.now);
        let place = self
            .experiment
            .arms
            .iter()
            .position(|arm| arm.name == found.arm);
        let deteriorated = place.and_then(|place| self.deteriorated(&comparing, place));
        let missing = self.missing(&found.arm);
        let states = self
            .guardrails()
            .filter(|(_, other)| other.arm == found.arm);
        let decision = decision::decide(
            &decision::Evidence {
                // Two-sided with the sign of an improvement is one side at half the level.
                success_p_values: vec![found.p.unwrap_or(0.0) / 2.0],
                guardrails: states
                    .map(|(_, other)| match other.guardrail {
                        _ if holds(other) => Guardrail::NonInferior,
                        Some(GuardrailState::Violated) => Guardrail::Violated,
                        _ => Guardrail::Open,
                    })
                    .collect(),
                deteriorated: deteriorated.is_some(),
                quality_passes: self.failed().is_none(),
                may_ship: self.days >= plan.minimum_days,
            },
            plan.alpha / 2.0,
        );
        let may_promote = matches!(decision, Ok(Decision::Ship(_)));
        let stopped_early = plan.size.is_some()
            && place.is_some_and(|place| found.units < comparing.planned_units(place));
        let caution = match stopped_early && plan.mode != ReadingMode::Fixed {
            true => {
                " Found before the plan's units were there, the effect is likely a little smaller than shown."
            }
            false => "",
        };
        let next = if may_promote {
            format!(
                "`flywheel experiment promote {} --arm {} --reason …` deploys it.",
                self.experiment.name, found.arm
            )
        } else if let Some(metric) = deteriorated {
            format!("Do not promote it yet: {} became worse.", metric.name)
        } else {
            format!("Wait before promoting: {}.", missing.join("; "))
        };
        // What a plan found at a look stays found, whatever came later.
        let value = |name: &ArmName| {
            let arm = primary.arms.iter().find(|arm| arm.arm == *name);
            arm.and_then(|arm| arm.value)
        };
        let both = value(&found.arm).zip(value(&plan.control));
        let has_turned = found.decided_on.is_some()
            && both.is_some_and(|(own, control)| {
                oriented(primary.metric.direction, own - control) < 0.0
            });
        Verdict {
            state: VerdictState::Better,
            arm: Some(found.arm.clone()),
            headline: format!("{} is better.", found.arm),
            reason: format!(
                "{} {}, {}.{}{}{caution}{}",
                primary.metric.name,
                amount(&primary.metric, found),
                units_of_look(found).unwrap_or_else(|| self.behind(primary)),
                if found.is_unstable { CONTRADICT } else { "" },
                if has_turned { TURNED } else { "" },
                self.doubts()
            ),
            next,
            may_promote: may_promote && self.arms.iter().any(|arm| arm.arm == found.arm),
        }
    }
}

/// A plan whose last look has found no arm to be better, and has not ruled out that one is.
fn ended(figures: &str, effect: Option<String>) -> Verdict {
    let possible = effect.map_or_else(String::new, |effect| {
        let effect = effect.trim_start_matches('+');
        format!(" That one differs by {effect}, which would matter, is not ruled out.")
    });
    said(
        VerdictState::NoVerdict,
        "Inconclusive: no arm was found to be better.",
        format!(
            "{figures}{possible} The units of the plan are there, and looking again would find too much."
        ),
        "Stop, and keep the control; a smaller effect takes another experiment.",
    )
}

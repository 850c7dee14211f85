//! Was the traffic split as planned, and what do a canary's verdicts say?

use anyhow::{Result, bail};
use clap::Args;
use flywheel_stats::canary::{Canary, Circumstances, Rule, Verdict};
use flywheel_stats::paired::PairedCounts;
use flywheel_stats::srm;
use serde_json::{Value, json};

use super::inputs::{Counts, parse_counts};
use super::{Report, interval_json, member, must, p_value, percent, points, shown, trimmed};
use crate::printer::Style;

/// A p-value of a split that one look should not bring.
const SUSPICIOUS: f64 = 0.001;

#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// Users in each arm, such as 5210,4790
    #[arg(value_name = "COUNTS", value_parser = parse_counts)]
    counts: Counts,
    /// The planned weights; all alike if absent
    #[arg(long, value_name = "WEIGHTS", value_parser = parse_counts)]
    weights: Option<Counts>,
}

impl SplitArgs {
    pub(super) fn report(self) -> Result<Report> {
        let counts = &self.counts.0;
        let weights: Vec<f64> = match &self.weights {
            Some(weights) => weights.0.iter().map(|weight| *weight as f64).collect(),
            None => vec![1.0; counts.len()],
        };
        if weights.len() != counts.len() {
            bail!(
                "{} arms have counts and {} have weights",
                counts.len(),
                weights.len()
            );
        }
        let is_broken = must("no check", srm::is_broken(counts, &weights))?;
        let evidence = must("no check", srm::averaged_log_e(counts, &weights))?;
        let fixed = srm::chi_squared(counts, &weights);
        let (all, weight): (u64, f64) = (counts.iter().sum(), weights.iter().sum());
        let expected: Vec<_> = weights
            .iter()
            .map(|part| format!("{:.0}", all as f64 * part / weight))
            .collect();
        let seen: Vec<_> = counts.iter().map(ToString::to_string).collect();
        let is_suspicious = fixed.is_ok_and(|test| test.is_reliable() && test.p < SUSPICIOUS);
        let (style, headline) = match (is_broken, is_suspicious) {
            (true, _) => (
                Style::Bad,
                "Invalid: the traffic was not split as planned. Do not use what the comparison says.",
            ),
            (false, true) => (
                Style::Warning,
                "Suspicious: invalid if this is the only look, not yet if it is one of many.",
            ),
            (false, false) => (
                Style::Good,
                "The split is as planned, as far as the counts tell.",
            ),
        };
        Ok(Report {
            headline: headline.to_owned(),
            style,
            entries: vec![
                ("seen", seen.join(" / ")),
                ("planned", expected.join(" / ")),
                (
                    "at any time",
                    format!("evidence e^{evidence:.2} against the plan; the alarm is at 1000, e^6.91"),
                ),
                ("looked at once", shown(fixed, |test| format!("p {} by χ²", p_value(test.p)))),
            ],
            hint: (is_broken || is_suspicious).then(|| {
                "look for a bot filter, crashes or timeouts in one arm, redirects, late logging, ids that were merged".to_owned()
            }),
            value: json!({
                "broken": is_broken,
                "log_e": evidence,
                "chi_squared_p": member(fixed.map(|test| test.p), Value::from),
            }),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct CanaryArgs {
    /// Pairs that the new version won, lost and tied, such as 6,22,56
    #[arg(value_name = "WON,LOST,TIED", value_parser = parse_counts)]
    pairs: Counts,
    /// The window has closed: promote, or say that it is not known
    #[arg(long)]
    closed: bool,
    /// Demand that the net win itself is shown to exceed what promotion asks for
    #[arg(long)]
    strict: bool,
}

impl CanaryArgs {
    pub(super) fn report(self) -> Result<Report> {
        let [wins, losses, ties] = *self.pairs.0.as_slice() else {
            bail!("a canary has three counts: pairs won, lost and tied, such as `6,22,56`");
        };
        let pairs = PairedCounts { wins, losses, ties };
        let rule = Rule {
            strict: self.strict,
            ..Rule::default()
        };
        let mut canary = must("the rule", Canary::new(rule))?;
        let verdict = canary.push(
            pairs,
            Circumstances {
                window_closes: self.closed,
                guardrails_pass: true,
                missing_share: 0.0,
                judge_healthy: true,
            },
        );
        let verdict = must("no verdict", verdict)?;
        let (style, headline) = match verdict {
            Verdict::Alert => (Style::Bad, "Alert: the new version loses. Take it back."),
            Verdict::Promote => (
                Style::Good,
                "Promote: the new version wins. Let it ramp up, under guardrails.",
            ),
            Verdict::Warn => (
                Style::Warning,
                "Warning: many losses, without evidence yet.",
            ),
            Verdict::Inconclusive => (
                Style::Strong,
                "Not known: extend the window, or ask a person.",
            ),
            Verdict::Watching => (Style::Strong, "Watching: nothing is known yet."),
        };
        let net = pairs.net_win();
        let interval = pairs.tango_interval(0.05);
        let harm = canary.log_e_harm();
        Ok(Report {
            headline: headline.to_owned(),
            style,
            entries: vec![
                (
                    "pairs",
                    format!(
                        "{} won, {} lost, {} tied of {}",
                        wins,
                        losses,
                        ties,
                        pairs.pairs()
                    ),
                ),
                (
                    "net win",
                    format!(
                        "{} (95% {})",
                        shown(net, points),
                        shown(interval, |interval| format!(
                            "{} to {}",
                            trimmed(interval.low * 100.0),
                            trimmed(interval.high * 100.0)
                        ))
                    ),
                ),
                (
                    "lost",
                    shown(pairs.loss_rate(), |share| {
                        format!("{}, {} are borne", percent(share), percent(rule.loss_rate))
                    }),
                ),
                (
                    "evidence of harm",
                    shown(harm, |log_e| {
                        format!("e^{log_e:.2}; the alarm is at 20, e^3.00")
                    }),
                ),
            ],
            hint: (!self.closed).then(|| {
                "--closed judges at the end of the window, when promotion is possible".to_owned()
            }),
            value: json!({
                "verdict": format!("{verdict:?}").to_lowercase(),
                "net_win": member(net, Value::from),
                "interval": member(interval, interval_json),
                "log_e_harm": member(harm, Value::from),
            }),
        })
    }
}

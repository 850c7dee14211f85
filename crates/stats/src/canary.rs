//! The shadow canary: alert, warn or promote from paired verdicts on live requests.
//!
//! A new version's error, timeout or schema failure where the old one succeeded is a loss; a missing verdict is neither
//! loss nor tie. The alert holds at any look and with any share of ties, the promotion only at the window's close.

use crate::paired::PairedCounts;
use crate::sequential::net_win::{self, BETS};
use crate::undefined::{Defined, level, probability};

/// What the rule asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The share of losses above which it warns, and alerts if there is evidence.
    pub loss_rate: f64,
    /// The net loss that the evidence of harm must exceed.
    pub harm_margin: f64,
    /// The chance of ever alerting on an equal version.
    pub harm_alpha: f64,
    /// The net win from which on it promotes.
    pub net_win: f64,
    /// The chance of ever promoting an equal version.
    pub win_alpha: f64,
    /// Pairs that a promotion needs.
    pub promote_pairs: u64,
    /// Pairs that a warning needs.
    pub warn_pairs: u64,
    /// Whether the net win itself must be shown to exceed its threshold, not only to be above zero.
    pub strict: bool,
    /// The share of missing verdicts above which the judge counts as unhealthy.
    pub missing: f64,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            loss_rate: 0.15,
            harm_margin: 0.0,
            harm_alpha: 0.05,
            net_win: 0.10,
            win_alpha: 0.025,
            promote_pairs: 50,
            warn_pairs: 30,
            strict: false,
            missing: 0.05,
        }
    }
}

/// What a look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The new version loses more than it may, and more than it wins beyond chance: stop it.
    Alert,
    /// The new version wins: let it ramp up, under guardrails.
    Promote,
    /// The share of losses is high, without evidence yet.
    Warn,
    /// The window has closed without an answer: extend it, or ask a person.
    Inconclusive,
    /// The window is open and nothing is known.
    Watching,
}

/// What else a look needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circumstances {
    /// Whether the window, or one of its extensions, closes now.
    pub window_closes: bool,
    /// Whether every guardrail is non-inferior.
    pub guardrails_pass: bool,
    /// Verdicts that are missing, of all pairs asked for.
    pub missing_share: f64,
    /// Whether flips and position bias are within bounds, and missing verdicts are balanced.
    pub judge_healthy: bool,
}

/// The state of a canary over its looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canary {
    rule: Rule,
    counts: PairedCounts,
    best_log_e: f64,
    alerted: bool,
}

impl Canary {
    /// No pairs yet.
    pub fn new(rule: Rule) -> Defined<Self> {
        level(rule.harm_alpha)?;
        level(rule.win_alpha)?;
        probability(rule.loss_rate)?;
        net_win::log_e(PairedCounts::default(), rule.harm_margin, &BETS)?;
        net_win::log_e(PairedCounts::default(), rule.net_win, &BETS)?;
        Ok(Self {
            rule,
            counts: PairedCounts::default(),
            best_log_e: 0.0,
            alerted: false,
        })
    }

    /// Adds the verdicts of new pairs and judges them. Add them one by one to use each look.
    pub fn push(&mut self, new: PairedCounts, circumstances: Circumstances) -> Defined<Verdict> {
        self.counts.merge(&new);
        let margin = if self.rule.strict {
            self.rule.net_win
        } else {
            0.0
        };
        let evidence = net_win::log_e(self.counts, margin, &BETS)?;
        self.best_log_e = self.best_log_e.max(evidence);
        if self.counts.pairs() == 0 {
            return Ok(Self::unanswered(circumstances));
        }
        let loss_rate = self.counts.loss_rate()?;
        let too_many = loss_rate > self.rule.loss_rate;
        if too_many && self.log_e_harm()? >= -self.rule.harm_alpha.ln() {
            self.alerted = true;
        }
        if self.alerted {
            return Ok(Verdict::Alert);
        }
        if circumstances.window_closes && self.promotes(circumstances)? {
            return Ok(Verdict::Promote);
        }
        let warns = too_many && self.counts.pairs() >= self.rule.warn_pairs;
        Ok(if warns && !circumstances.window_closes {
            Verdict::Warn
        } else {
            Self::unanswered(circumstances)
        })
    }

    /// All pairs so far.
    #[must_use]
    pub fn counts(&self) -> PairedCounts {
        self.counts
    }

    /// ln E that the new version loses more than the margin, net.
    pub fn log_e_harm(&self) -> Defined<f64> {
        net_win::log_e(self.counts.swapped(), self.rule.harm_margin, &BETS)
    }

    /// The largest ln E so far that the new version wins, net.
    #[must_use]
    pub fn best_log_e_win(&self) -> f64 {
        self.best_log_e
    }

    fn promotes(&self, circumstances: Circumstances) -> Defined<bool> {
        let healthy =
            circumstances.judge_healthy && circumstances.missing_share < self.rule.missing;
        // A net win of exactly the threshold counts, also where its double falls just below.
        Ok(self.best_log_e >= -self.rule.win_alpha.ln()
            && self.counts.net_win()? >= self.rule.net_win - 1e-12
            && self.counts.pairs() >= self.rule.promote_pairs
            && circumstances.guardrails_pass
            && healthy)
    }

    fn unanswered(circumstances: Circumstances) -> Verdict {
        if circumstances.window_closes {
            Verdict::Inconclusive
        } else {
            Verdict::Watching
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Circumstances = Circumstances {
        window_closes: false,
        guardrails_pass: true,
        missing_share: 0.01,
        judge_healthy: true,
    };
    const CLOSING: Circumstances = Circumstances {
        window_closes: true,
        ..OPEN
    };

    fn judge(wins: u64, losses: u64, ties: u64, circumstances: Circumstances) -> Verdict {
        let mut canary = Canary::new(Rule::default()).unwrap();
        canary
            .push(PairedCounts { wins, losses, ties }, circumstances)
            .unwrap()
    }

    #[test]
    fn verdicts() {
        assert_eq!(judge(0, 0, 0, OPEN), Verdict::Watching);
        assert_eq!(judge(0, 0, 0, CLOSING), Verdict::Inconclusive);
        assert_eq!(judge(6, 22, 56, OPEN), Verdict::Alert);
        // Many losses, but as many wins.
        assert_eq!(judge(90, 90, 20, OPEN), Verdict::Warn);
        assert_eq!(judge(90, 90, 20, CLOSING), Verdict::Inconclusive);
        assert_eq!(judge(60, 20, 120, OPEN), Verdict::Watching);
        assert_eq!(judge(60, 20, 120, CLOSING), Verdict::Promote);
        let failing = Circumstances {
            guardrails_pass: false,
            ..CLOSING
        };
        assert_eq!(judge(60, 20, 120, failing), Verdict::Inconclusive);
        let missing = Circumstances {
            missing_share: 0.05,
            ..CLOSING
        };
        assert_eq!(judge(60, 20, 120, missing), Verdict::Inconclusive);
        assert_eq!(judge(20, 2, 20, CLOSING), Verdict::Inconclusive);
    }

    #[test]
    fn an_alert_stays() {
        let mut canary = Canary::new(Rule::default()).unwrap();
        let losses = PairedCounts {
            wins: 2,
            losses: 30,
            ties: 10,
        };
        assert_eq!(canary.push(losses, OPEN), Ok(Verdict::Alert));
        let wins = PairedCounts {
            wins: 500,
            losses: 0,
            ties: 0,
        };
        assert_eq!(canary.push(wins, CLOSING), Ok(Verdict::Alert));
    }

    #[test]
    fn strict_rules_need_more() {
        let strict = Rule {
            strict: true,
            ..Rule::default()
        };
        let counts = PairedCounts {
            wins: 60,
            losses: 20,
            ties: 120,
        };
        let mut canary = Canary::new(strict).unwrap();
        assert_eq!(canary.push(counts, CLOSING), Ok(Verdict::Inconclusive));
        let nonsense = Rule {
            net_win: 1.0,
            ..Rule::default()
        };
        assert!(Canary::new(nonsense).is_err());
    }
}

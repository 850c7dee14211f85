//! The summary at the end.

use std::fmt::Write as _;
use std::time::Duration;

use super::ledger::{Ledger, Tally, Violation, ViolationKind};

#[derive(Default)]
pub(super) struct Report {
    pub(super) rounds: u32,
    pub(super) kills: u32,
    pub(super) terminations: u32,
    pub(super) kills_while_draining: u32,
    pub(super) kills_while_starting: u32,
    /// Kills that cut off at least one request.
    pub(super) kills_in_flight: u32,
    pub(super) cut_off: usize,
    pub(super) slowest_start: Duration,
    pub(super) violations: Vec<Violation>,
    tally: Tally,
    counts: [usize; 3],
}

impl Report {
    pub(super) fn note(&mut self, ledger: &Ledger) {
        self.tally = ledger.tally;
        self.violations.clone_from(&ledger.violations);
        let kinds = [
            ViolationKind::Lost,
            ViolationKind::Duplicate,
            ViolationKind::Wrong,
        ];
        self.counts = kinds.map(|kind| ledger.count(kind));
    }

    pub(super) fn table(&self, took: Duration) -> String {
        let Self { tally, .. } = self;
        let [lost, duplicates, wrong] = self.counts.map(|count| count.to_string());
        let kills = format!(
            "{} SIGKILL, {} SIGTERM, {} both, {} more while starting",
            self.kills, self.terminations, self.kills_while_draining, self.kills_while_starting
        );
        let cut_off = format!("{} kills, {} requests", self.kills_in_flight, self.cut_off);
        let lines = [
            (
                "rounds",
                format!("{} in {:.1} s", self.rounds, took.as_secs_f64()),
            ),
            ("ended by", kills),
            ("cut off mid-flight", cut_off),
            ("calls acknowledged", tally.calls.to_string()),
            ("streams acknowledged", tally.streams.to_string()),
            ("logged calls", tally.logged.to_string()),
            ("calls replayed", tally.replays.to_string()),
            ("feedback", tally.feedback.to_string()),
            ("repeats recognised", tally.repeats.to_string()),
            ("deployments", tally.deployments.to_string()),
            ("races lost", tally.lost_races.to_string()),
            ("labels, experiments", tally.other_changes.to_string()),
            ("answered unrecorded", tally.unrecorded.to_string()),
            ("found unacknowledged", tally.found.to_string()),
            (
                "slowest start",
                format!("{:.2} s", self.slowest_start.as_secs_f64()),
            ),
            ("lost", lost),
            ("duplicates", duplicates),
            ("wrong", wrong),
        ];
        let mut table = String::new();
        for (name, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "{name:<21} {value}");
        }
        table
    }
}

//! The table: what was simulated, the figure, its bound, and whether it was kept.

use std::fmt;

use anyhow::Result;
use flywheel_stats::accumulate::Moments;
use flywheel_stats::special::{binomial, normal};

use super::runs::Count;

/// Every figure, in order.
pub(super) struct Table {
    rows: Vec<Row>,
    /// Standard errors that a simulated figure may lie beyond its bound.
    sigmas: f64,
}

/// What a figure rests on.
#[derive(Clone, Copy)]
pub(super) enum Basis {
    Runs(u64),
    /// All outcomes, each with its probability.
    Enumeration,
    /// A clock.
    Measurement,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Kept,
    Missed,
    /// Beyond the bound, by no more than the method is known to be.
    Short,
    /// A figure without a bound, or one that is not judged.
    Shown,
}

/// Where a coverage must lie.
pub(super) struct Bounds {
    pub(super) low: f64,
    pub(super) high: Option<f64>,
    /// What a correct implementation of a method that falls short of `low` comes to in its worst setting, and why.
    pub(super) known: Option<(f64, &'static str)>,
}

struct Row {
    /// The number of the acceptance goal.
    goal: u8,
    what: String,
    basis: Basis,
    figure: String,
    bound: String,
    verdict: Verdict,
    note: Option<String>,
}

/// The coverage of an interval in one setting.
pub(super) struct Cell {
    /// The setting, in words.
    pub(super) at: String,
    pub(super) coverage: Coverage,
}

pub(super) enum Coverage {
    Simulated(Count),
    Exact(f64),
}

impl Coverage {
    fn share(&self) -> f64 {
        match self {
            Self::Simulated(count) => count.share(),
            Self::Exact(share) => *share,
        }
    }
}

impl Table {
    pub(super) fn new(sigmas: f64) -> Self {
        Self {
            rows: Vec::new(),
            sigmas,
        }
    }

    /// Something that may happen in at most this share of runs.
    pub(super) fn at_most(&mut self, goal: u8, what: &str, count: Count, bound: f64) -> Result<()> {
        let allowed = self.most_allowed(count.runs, bound)?;
        let room = allowed as f64 / count.runs as f64 - bound;
        self.push(Row {
            goal,
            what: what.to_owned(),
            basis: Basis::Runs(count.runs),
            figure: share(count.share()),
            bound: format!("≤ {bound} (+{room:.4})"),
            verdict: Verdict::of(count.hits <= allowed),
            note: None,
        });
        Ok(())
    }

    /// Something that must happen in at least this share of runs.
    pub(super) fn at_least(
        &mut self,
        goal: u8,
        what: &str,
        count: Count,
        bound: f64,
    ) -> Result<()> {
        let allowed = self.fewest_allowed(count.runs, bound)?;
        let room = bound - allowed as f64 / count.runs as f64;
        self.push(Row {
            goal,
            what: what.to_owned(),
            basis: Basis::Runs(count.runs),
            figure: share(count.share()),
            bound: format!("≥ {bound} (−{room:.4})"),
            verdict: Verdict::of(count.hits >= allowed),
            note: None,
        });
        Ok(())
    }

    /// The coverage of an interval over several settings, each of which must lie within the bounds.
    pub(super) fn coverage(&mut self, what: &str, cells: &[Cell], bounds: &Bounds) -> Result<()> {
        let mut verdict = Verdict::Kept;
        let mut basis = Basis::Enumeration;
        for cell in cells {
            if let Coverage::Simulated(count) = cell.coverage {
                basis = Basis::Runs(count.runs);
            }
            if self.reaches(cell, bounds.low)? && self.stays_below(cell, bounds.high)? {
                continue;
            }
            let is_known = match bounds.known {
                Some((least, _)) => self.reaches(cell, least)?,
                None => false,
            };
            if !is_known {
                verdict = Verdict::Missed;
            } else if verdict == Verdict::Kept {
                verdict = Verdict::Short;
            }
        }
        let shares = || cells.iter().map(|cell| (cell.coverage.share(), &cell.at));
        let lowest = shares().min_by(|one, other| one.0.total_cmp(&other.0));
        let highest = shares().max_by(|one, other| one.0.total_cmp(&other.0));
        let (Some(lowest), Some(highest)) = (lowest, highest) else {
            anyhow::bail!("`{what}` has no settings");
        };
        let bound = match bounds.high {
            Some(high) => format!("{} to {high}", bounds.low),
            None => format!("≥ {}", bounds.low),
        };
        self.push(Row {
            goal: 4,
            what: format!("{what}: {} settings", cells.len()),
            basis,
            figure: format!("{} to {}", share(lowest.0), share(highest.0)),
            bound: match basis {
                Basis::Runs(runs) => format!("{bound} (±{:.4})", self.room(runs, bounds.low)),
                Basis::Enumeration | Basis::Measurement => bound,
            },
            verdict,
            note: Some(format!("lowest at {}, highest at {}", lowest.1, highest.1)),
        });
        let below = shares().filter(|(share, _)| *share < bounds.low).count();
        if below > 0 {
            self.note(&format!("{below} of {} below {}", cells.len(), bounds.low));
        }
        if let (Verdict::Short, Some((_, reason))) = (verdict, bounds.known) {
            self.note(reason);
        }
        Ok(())
    }

    fn reaches(&self, cell: &Cell, low: f64) -> Result<bool> {
        Ok(match cell.coverage {
            Coverage::Exact(share) => share >= low,
            Coverage::Simulated(count) => count.hits >= self.fewest_allowed(count.runs, low)?,
        })
    }

    fn stays_below(&self, cell: &Cell, high: Option<f64>) -> Result<bool> {
        let Some(high) = high else { return Ok(true) };
        Ok(match cell.coverage {
            Coverage::Exact(share) => share <= high,
            Coverage::Simulated(count) => count.hits <= self.most_allowed(count.runs, high)?,
        })
    }

    /// A mean over runs that must reach a bound.
    pub(super) fn mean_at_least(
        &mut self,
        goal: u8,
        what: &str,
        values: &[f64],
        bound: f64,
    ) -> Result<()> {
        let moments = Moments::of(values);
        let error = (moments.variance()? / values.len() as f64).sqrt();
        let room = self.sigmas * error;
        self.push(Row {
            goal,
            what: what.to_owned(),
            basis: Basis::Runs(values.len() as u64),
            figure: format!("{:.0}", moments.mean()?),
            bound: format!("≥ {bound:.0} (−{room:.0})"),
            verdict: Verdict::of(moments.mean()? >= bound - room),
            note: None,
        });
        Ok(())
    }

    /// A duration in milliseconds that must stay below a bound; on a machine that may be slow or busy it is only shown.
    pub(super) fn faster_than(&mut self, what: &str, milliseconds: f64, bound: f64, judge: bool) {
        self.push(Row {
            goal: 8,
            what: what.to_owned(),
            basis: Basis::Measurement,
            figure: format!("{milliseconds:.4} ms"),
            bound: format!("< {bound} ms"),
            verdict: match judge {
                true => Verdict::of(milliseconds < bound),
                false => Verdict::Shown,
            },
            note: None,
        });
    }

    /// A figure without a bound.
    pub(super) fn show(&mut self, goal: u8, what: &str, runs: u64, figure: String) {
        self.push(Row {
            goal,
            what: what.to_owned(),
            basis: Basis::Runs(runs),
            figure,
            bound: String::new(),
            verdict: Verdict::Shown,
            note: None,
        });
    }

    /// Adds a sentence to the last row.
    pub(super) fn note(&mut self, text: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.note = Some(match row.note.take() {
                Some(before) => format!("{before}; {text}"),
                None => text.to_owned(),
            });
        }
    }

    /// Says of the last row why it falls short, although it is within the room of its runs.
    pub(super) fn falls_short(&mut self, reason: &str) {
        self.note(reason);
        if let Some(row) = self.rows.last_mut()
            && row.verdict == Verdict::Kept
        {
            row.verdict = Verdict::Short;
        }
    }

    /// How many goals were missed.
    pub(super) fn missed(&self) -> usize {
        self.number_of(Verdict::Missed)
    }

    fn number_of(&self, verdict: Verdict) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| row.verdict == verdict).count()
    }

    /// As a page of the documentation. `command` makes it again.
    pub(super) fn to_markdown(&self, command: &str) -> String {
        let mut page = format!(
            "# Simulations of the statistics\n\n\
             How often the statistics are wrong, and how soon right: simulated through the functions of `flywheel-stats`, called as whoever shows\n\
             a result calls them, at every look and with the floors of a first look. The same seed gives the same table, but for the durations of\n\
             goal 8 and for goal 9, where a running server draws who is in which arm.\n\n    {command} --markdown docs/simulations.md\n\n\
             A simulated figure may lie {} standard errors beyond its bound, which is the room in brackets. *Every outcome* means that nothing was\n\
             drawn: all outcomes were enumerated and weighed with their probabilities. *Short* is what the method is known to fall short by, and no\n\
             more; the notes below say where. Goal 1, reference values, is `cargo xtask vectors FILE`.\n\n\
             | goal | what | runs | figure | bound | |\n| --- | --- | --- | --- | --- | --- |\n",
            self.sigmas
        );
        let mut notes = String::new();
        for row in &self.rows {
            page += &format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                goal(row.goal),
                row.what,
                row.basis,
                row.figure,
                row.bound,
                row.verdict
            );
            if let Some(note) = &row.note {
                notes += &format!("- {}: {note}.\n", row.what);
            }
        }
        if notes.is_empty() {
            return page;
        }
        format!("{page}\n## Notes\n\n{notes}")
    }

    fn push(&mut self, row: Row) {
        eprintln!("{row}");
        self.rows.push(row);
    }

    /// The largest number of hits that a probability of `bound` explains.
    fn most_allowed(&self, runs: u64, bound: f64) -> Result<u64> {
        let tail = normal::sf(self.sigmas);
        let (mut allowed, mut refused) = (0, runs + 1);
        while refused - allowed > 1 {
            let middle = allowed + (refused - allowed) / 2;
            // P(X ≥ middle).
            if binomial::sf(middle - 1, runs, bound)? > tail {
                allowed = middle;
            } else {
                refused = middle;
            }
        }
        Ok(allowed)
    }

    fn fewest_allowed(&self, runs: u64, bound: f64) -> Result<u64> {
        Ok(runs - self.most_allowed(runs, 1.0 - bound)?)
    }

    fn room(&self, runs: u64, bound: f64) -> f64 {
        self.sigmas * (bound * (1.0 - bound) / runs as f64).sqrt()
    }
}

impl Verdict {
    fn of(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Missed }
    }
}

/// The number of a goal, and what it is about.
fn goal(number: u8) -> String {
    let about = match number {
        2 => "level",
        3 => "power",
        4 => "coverage",
        5 => "canary",
        6 => "split",
        7 => "detector",
        8 => "duration",
        _ => "requests",
    };
    format!("{number} {about}")
}

fn share(share: f64) -> String {
    format!("{share:.4}")
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kept => "kept",
            Self::Missed => "MISSED",
            Self::Short => "short",
            Self::Shown => "",
        })
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs(runs) => formatter.pad(&runs.to_string()),
            Self::Enumeration => formatter.pad("every outcome"),
            Self::Measurement => formatter.pad("timed"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            goal: number,
            what,
            basis,
            figure,
            bound,
            verdict,
            note,
        } = self;
        write!(
            formatter,
            "{:<10}  {what:<78} {basis:>13}  {figure:<17} {bound:<24} {verdict}",
            goal(*number)
        )?;
        match note {
            Some(note) => write!(formatter, "\n{:12}{note}", ""),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(formatter, "{row}")?;
        }
        write!(
            formatter,
            "{} kept, {} short as known, {} missed",
            self.number_of(Verdict::Kept),
            self.number_of(Verdict::Short),
            self.missed()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(hits: u64, runs: u64) -> Count {
        Count { hits, runs }
    }

    #[test]
    fn shares_are_judged_with_the_room_of_their_runs() {
        let verdict = |judge: &dyn Fn(&mut Table) -> Result<()>| {
            let mut table = Table::new(2.0);
            judge(&mut table).unwrap();
            table.missed() == 0
        };
        // Two standard errors of .05 in 10,000 runs are .0044.
        assert!(verdict(&|table| table.at_most(
            2,
            "a",
            count(543, 10_000),
            0.05
        )));
        assert!(!verdict(&|table| table.at_most(
            2,
            "a",
            count(546, 10_000),
            0.05
        )));
        assert!(verdict(&|table| table.at_least(
            3,
            "b",
            count(7921, 10_000),
            0.8
        )));
        assert!(!verdict(&|table| table.at_least(
            3,
            "b",
            count(7917, 10_000),
            0.8
        )));
        assert!(verdict(&|table| table.at_most(6, "c", count(0, 10), 0.001)));
        assert!(!verdict(&|table| table.at_most(
            6,
            "c",
            count(1, 10),
            0.001
        )));
        assert!(verdict(&|table| table.mean_at_least(
            7,
            "d",
            &[9.0, 11.0],
            11.9
        )));
        assert!(!verdict(&|table| table.mean_at_least(
            7,
            "d",
            &[9.0, 11.0],
            12.1
        )));
    }

    #[test]
    fn coverage_is_judged_in_every_setting() {
        let verdict = |shares: &[f64], known: Option<(f64, &'static str)>| {
            let cells: Vec<Cell> = shares
                .iter()
                .map(|share| Cell {
                    at: format!("{share}"),
                    coverage: Coverage::Exact(*share),
                })
                .collect();
            let bounds = Bounds {
                low: 0.94,
                high: Some(0.99),
                known,
            };
            let mut table = Table::new(2.0);
            table.coverage("a", &cells, &bounds).unwrap();
            table
        };
        let kept = verdict(&[0.95, 0.941], None);
        assert_eq!((kept.missed(), kept.number_of(Verdict::Kept)), (0, 1));
        assert!(kept.to_string().contains("lowest at 0.941"));
        assert_eq!(verdict(&[0.95, 0.939], None).missed(), 1);
        assert_eq!(verdict(&[0.95, 0.991], None).missed(), 1);
        let known = Some((0.93, "it is so"));
        let mut short = verdict(&[0.95, 0.939], known);
        assert_eq!((short.missed(), short.number_of(Verdict::Short)), (0, 1));
        assert_eq!(verdict(&[0.939, 0.929], known).missed(), 1);
        short.note("why");
        let page = short.to_markdown("cargo xtask simulate --seed 1");
        assert!(page.contains("| 4 coverage | a: 2 settings | every outcome | 0.9390 to 0.9500 |"));
        assert!(page.contains("1 of 2 below 0.94; it is so; why."), "{page}");
    }
}

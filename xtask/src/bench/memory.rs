//! The server's memory: idle, under everything that was measured, and over time under a steady load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::bed::{self, Bed, CHAT};
use super::figures::{Figures, Goal, median};
use super::open_loop::{self, Kind, Load};
use super::throughput::CONNECTIONS;

const EVERY: Duration = Duration::from_millis(250);
/// Growth that counts as flat, from the soak's second quarter to its last.
const FLAT_PERCENT: f64 = 10.0;

/// A thread that looks at a process's memory again and again.
pub(super) struct Watch {
    process: u32,
    idle: f64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Watch {
    pub(super) fn start(process: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let idle = resident(process).unwrap_or(f64::NAN);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.extend(resident(process).ok());
                std::thread::sleep(EVERY);
            }
            samples
        });
        Self {
            process,
            idle,
            stop,
            thread,
        }
    }

    fn end(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }

    /// Reports what was seen so far and then soaks.
    pub(super) async fn measure(
        self,
        bed: &Bed,
        rate: f64,
        minutes: u64,
        figures: &mut Figures,
    ) -> Result<()> {
        let process = self.process;
        figures.add("memory, idle", self.idle, "MB", None);
        let most = self.end().into_iter().fold(0.0, f64::max);
        figures.add("memory, most under the loads above", most, "MB", None);
        if minutes == 0 {
            return Ok(());
        }
        let watch = Self::start(process);
        let begun = Instant::now();
        open_loop::run(Load {
            address: bed.flywheel_address,
            path: CHAT,
            body: bed::app_request(&json!({})),
            kind: Kind::Whole,
            rate,
            connections: CONNECTIONS,
            duration: Duration::from_secs(60 * minutes),
        })
        .await?;
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        let samples = watch.end();
        let quarter = |number: usize| {
            let length = samples.len() / 4;
            median(&samples[number * length..(number + 1) * length])
        };
        let (before, after) = (quarter(1), quarter(3));
        figures.add(
            &format!("memory, median of {minutes:.0} min of calls"),
            median(&samples),
            "MB",
            None,
        );
        let growth = (after / before - 1.0) * 100.0;
        let name = "memory, growth from 2nd to 4th quarter";
        figures.add_goal(name, growth, "%", None, Goal::AtMost(FLAT_PERCENT));
        Ok(())
    }
}

/// The memory that a process holds, in MB.
pub(super) fn resident(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("the process tells no memory")?
        .parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

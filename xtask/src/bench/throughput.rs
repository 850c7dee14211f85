//! Whole answers as fast as they go, through nginx and through the gateway in turns.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::json;

use super::bed::{self, Bed, CHAT};
use super::figures::{Figures, Goal, median};
use super::processes::Process;
use super::wrk;

/// Callers at a time.
pub(super) const CONNECTIONS: usize = 64;

/// Answers in a second.
#[derive(Clone, Copy)]
pub(super) struct Peaks {
    pub(super) flywheel: f64,
    pub(super) nginx: f64,
}

pub(super) fn measure(bed: &Bed, figures: &mut Figures) -> Result<Peaks> {
    let [mut flywheel, mut nginx] = [(); 2].map(|()| Rounds::default());
    let ours = bed::app_request(&json!({}));
    let theirs = bed::provider_request(&json!({}));
    for _ in 0..bed.rounds {
        nginx.measure(bed, &bed.nginx, bed.nginx_address, &theirs)?;
        flywheel.measure(bed, &bed.flywheel, bed.flywheel_address, &ours)?;
    }
    let peaks = Peaks {
        flywheel: median(&flywheel.paces),
        nginx: median(&nginx.paces),
    };
    let name = "throughput, every call recorded";
    figures.add_goal(
        name,
        peaks.flywheel,
        "calls/s",
        Some(peaks.nginx),
        Goal::TimesNginx(0.2),
    );
    let costs = [&flywheel, &nginx].map(|rounds| median(&rounds.costs));
    figures.add("processor time of a call", costs[0], "us", Some(costs[1]));
    Ok(peaks)
}

#[derive(Default)]
struct Rounds {
    /// Calls in a second.
    paces: Vec<f64>,
    /// Processor time of each call, in microseconds. Unlike the pace it does not depend on who else is busy.
    costs: Vec<f64>,
}

impl Rounds {
    fn measure(
        &mut self,
        bed: &Bed,
        process: &Process,
        address: SocketAddr,
        body: &[u8],
    ) -> Result<()> {
        let before = process.processor_seconds()?;
        let pace = wrk::run(bed, address, CHAT, body, CONNECTIONS)?;
        let used = process.processor_seconds()? - before;
        self.paces.push(pace.per_second);
        self.costs.push(used / pace.answers * 1e6);
        Ok(())
    }
}

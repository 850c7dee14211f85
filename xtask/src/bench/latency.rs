//! What a gateway adds to the latency of whole answers, at half of its own peak.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use serde_json::json;

use super::bed::{self, Bed, CHAT};
use super::figures::{Figures, Goal, median};
use super::open_loop::{self, Kind, Load};
use super::throughput::{CONNECTIONS, Peaks};

/// Milliseconds, round by round.
#[derive(Default)]
struct Percentiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(super) async fn measure(bed: &Bed, peaks: Peaks, figures: &mut Figures) -> Result<()> {
    let rate = peaks.flywheel / 2.0;
    let ours = bed::app_request(&json!({}));
    let theirs = bed::provider_request(&json!({}));
    let [mut direct, mut nginx, mut flywheel] = [(); 3].map(|()| Percentiles::default());
    for _ in 0..bed.rounds {
        direct
            .measure(bed, bed.upstream_address, &theirs, rate)
            .await?;
        nginx.measure(bed, bed.nginx_address, &theirs, rate).await?;
        flywheel
            .measure(bed, bed.flywheel_address, &ours, rate)
            .await?;
    }
    let (ours, theirs) = (flywheel.beyond(&direct), nginx.beyond(&direct));
    figures.add("rate for the latencies", rate, "calls/s", None);
    figures.add("latency added at p50", ours.0, "ms", Some(theirs.0));
    figures.add_goal(
        "latency added at p99",
        ours.1,
        "ms",
        Some(theirs.1),
        Goal::AtMost(2.0),
    );
    Ok(())
}

impl Percentiles {
    async fn measure(
        &mut self,
        bed: &Bed,
        address: SocketAddr,
        body: &Bytes,
        rate: f64,
    ) -> Result<()> {
        let latencies = open_loop::run(Load {
            address,
            path: CHAT,
            body: body.clone(),
            kind: Kind::Whole,
            rate,
            connections: CONNECTIONS,
            duration: Duration::from_secs(bed.seconds),
        })
        .await?;
        self.p50.push(latencies.quantile(0.5));
        self.p99.push(latencies.quantile(0.99));
        Ok(())
    }

    /// How much longer it took than straight to the upstream.
    fn beyond(&self, direct: &Self) -> (f64, f64) {
        (
            median(&self.p50) - median(&direct.p50),
            median(&self.p99) - median(&direct.p99),
        )
    }
}

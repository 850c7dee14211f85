//! What a gateway adds to the latency of whole answers: at half of its own peak, and at a rate that few services reach.

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

/// Calls per second that leave the machine's cores mostly idle: 86 million calls a day.
const STEADY_RATE: f64 = 1_000.0;

pub(super) async fn measure(bed: &Bed, peaks: Peaks, figures: &mut Figures) -> Result<()> {
    at_rate(bed, peaks.flywheel / 2.0, "half of the peak", figures).await?;
    at_rate(bed, STEADY_RATE, "1,000 calls/s", figures).await
}

async fn at_rate(bed: &Bed, rate: f64, name: &str, figures: &mut Figures) -> Result<()> {
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
    figures.add(&format!("rate at {name}"), rate, "calls/s", None);
    figures.add(
        &format!("latency added at p50, {name}"),
        ours.0,
        "ms",
        Some(theirs.0),
    );
    figures.add_goal(
        &format!("latency added at p99, {name}"),
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

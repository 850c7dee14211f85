//! A thousand concurrent streams: as fast as they go, and then at half of that pace, event by event.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use serde_json::json;

use super::bed::{self, Bed, CHAT, UNBUFFERED_CHAT};
use super::figures::{Figures, Goal, median, quantile};
use super::open_loop::{self, Kind, Load};
use super::upstream::{EVENTS, PAUSE};
use super::wrk;

const STREAMS: usize = 1000;

pub(super) async fn measure(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let peak = throughput(bed, figures)?;
    // The upstream pauses for as long between two events as makes a thousand streams half of the peak.
    let pause = Duration::from_secs_f64(STREAMS as f64 / (peak / 2.0));
    let further = json!({"stream": true, PAUSE: pause.as_micros() as u64});
    let (ours, theirs) = (bed::app_request(&further), bed::provider_request(&further));
    let [mut direct, mut nginx, mut flywheel] = [(); 3].map(|()| Delays::default());
    for _ in 0..bed.rounds {
        direct
            .measure(bed, bed.upstream_address, CHAT, &theirs, pause)
            .await?;
        nginx
            .measure(bed, bed.nginx_address, UNBUFFERED_CHAT, &theirs, pause)
            .await?;
        flywheel
            .measure(bed, bed.flywheel_address, CHAT, &ours, pause)
            .await?;
    }
    figures.add(
        "1,000 streams: pause between two events",
        pause.as_secs_f64() * 1e3,
        "ms",
        None,
    );
    for (name, pick) in [
        (
            "1,000 streams: first event later, p50",
            Delays::first_p50 as fn(&Delays) -> f64,
        ),
        ("1,000 streams: first event later, p99", Delays::first_p99),
        ("1,000 streams: any event later, p50", Delays::all_p50),
        ("1,000 streams: any event later, p99", Delays::all_p99),
    ] {
        let straight = pick(&direct);
        figures.add(
            name,
            pick(&flywheel) - straight,
            "ms",
            Some(pick(&nginx) - straight),
        );
    }
    Ok(())
}

/// Events in a second through the gateway.
fn throughput(bed: &Bed, figures: &mut Figures) -> Result<f64> {
    let (mut flywheel, mut nginx) = (Vec::new(), Vec::new());
    let further = json!({"stream": true});
    let (ours, theirs) = (bed::app_request(&further), bed::provider_request(&further));
    let per_stream = f64::from(EVENTS);
    for _ in 0..bed.rounds {
        let through = wrk::run(bed, bed.nginx_address, UNBUFFERED_CHAT, &theirs, STREAMS)?;
        nginx.push(through.per_second * per_stream);
        let through = wrk::run(bed, bed.flywheel_address, CHAT, &ours, STREAMS)?;
        flywheel.push(through.per_second * per_stream);
    }
    let (flywheel, nginx) = (median(&flywheel), median(&nginx));
    let name = "1,000 streams: throughput, every call recorded";
    figures.add_goal(
        name,
        flywheel,
        "events/s",
        Some(nginx),
        Goal::TimesNginx(0.2),
    );
    Ok(flywheel)
}

/// Milliseconds, round by round.
#[derive(Default)]
struct Delays {
    first: Vec<[f64; 2]>,
    all: Vec<[f64; 2]>,
}

impl Delays {
    async fn measure(
        &mut self,
        bed: &Bed,
        address: SocketAddr,
        path: &'static str,
        body: &Bytes,
        pause: Duration,
    ) -> Result<()> {
        let length = pause * EVENTS;
        let latencies = open_loop::run(Load {
            address,
            path,
            body: body.clone(),
            kind: Kind::Stream { pause },
            rate: STREAMS as f64 / length.as_secs_f64(),
            // Some more than a thousand, so that a stream that ends a little late delays no other.
            connections: STREAMS + STREAMS / 10,
            duration: Duration::from_secs(bed.seconds).max(length * 3),
        })
        .await?;
        self.first
            .push([0.5, 0.99].map(|share| quantile(&latencies.first, share)));
        self.all
            .push([0.5, 0.99].map(|share| latencies.quantile(share)));
        Ok(())
    }

    fn first_p50(&self) -> f64 {
        median_of(&self.first, 0)
    }

    fn first_p99(&self) -> f64 {
        median_of(&self.first, 1)
    }

    fn all_p50(&self) -> f64 {
        median_of(&self.all, 0)
    }

    fn all_p99(&self) -> f64 {
        median_of(&self.all, 1)
    }
}

fn median_of(rounds: &[[f64; 2]], place: usize) -> f64 {
    median(&rounds.iter().map(|round| round[place]).collect::<Vec<_>>())
}

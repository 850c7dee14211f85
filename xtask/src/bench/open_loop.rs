//! The open loop: requests start at a constant rate, whether or not earlier ones have been answered.
//!
//! A latency counts from the moment a request was due, so a server that makes its callers wait cannot hide it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::figures::quantile;

/// What is sent, where to and how often.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
    pub(super) body: Bytes,
    pub(super) kind: Kind,
    /// Requests in a second.
    pub(super) rate: f64,
    pub(super) connections: usize,
    pub(super) duration: Duration,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Whole,
    /// The upstream makes one event after each pause; an event's latency counts from when it was made.
    Stream {
        pause: Duration,
    },
}

/// Latencies in milliseconds.
#[derive(Default)]
pub(super) struct Latencies {
    /// Of whole answers, or of every event of streams.
    pub(super) all: Vec<f64>,
    /// Of the first events of streams.
    pub(super) first: Vec<f64>,
    failed: usize,
    problem: Option<String>,
}

impl Latencies {
    pub(super) fn quantile(&self, share: f64) -> f64 {
        quantile(&self.all, share)
    }

    fn add(&mut self, other: Self) {
        self.all.extend(other.all);
        self.first.extend(other.first);
        self.failed += other.failed;
        self.problem = self.problem.take().or(other.problem);
    }
}

/// Puts a load on a server and measures. What is due in the first fifth only warms up.
pub(super) async fn run(load: Load) -> Result<Latencies> {
    let load = Arc::new(load);
    let mut workers = JoinSet::new();
    let mut senders = Vec::with_capacity(load.connections);
    let warm_up = load.duration / 5;
    for _ in 0..load.connections {
        let (sender, due) = unbounded_channel();
        senders.push(sender);
        let connection = Connection::open(load.address).await?;
        workers.spawn(work(connection, due, Arc::clone(&load)));
    }
    let clock = {
        let load = Arc::clone(&load);
        // A thread of its own, since the runtime's timers are only good to a millisecond.
        std::thread::spawn(move || dispatch(&load, warm_up, &senders))
    };
    let mut latencies = Latencies::default();
    for measured in workers.join_all().await {
        latencies.add(measured);
    }
    // It only hands out work, so it has ended with the workers.
    let _ = clock.join();
    let Latencies {
        failed, problem, ..
    } = &latencies;
    ensure!(
        *failed == 0,
        "{failed} requests failed: {}",
        problem.as_deref().unwrap_or_default()
    );
    Ok(latencies)
}

/// When a request is due, and whether it counts.
struct Due {
    at: Instant,
    counts: bool,
}

fn dispatch(load: &Load, warm_up: Duration, workers: &[UnboundedSender<Due>]) {
    let begun = Instant::now();
    let total = (load.rate * load.duration.as_secs_f64()) as u64;
    for (number, worker) in (0..total).zip(workers.iter().cycle()) {
        let after = Duration::from_secs_f64(number as f64 / load.rate);
        let at = begun + after;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if worker
            .send(Due {
                at,
                counts: after >= warm_up,
            })
            .is_err()
        {
            return;
        }
    }
}

async fn work(
    mut connection: Connection,
    mut due: UnboundedReceiver<Due>,
    load: Arc<Load>,
) -> Latencies {
    let mut latencies = Latencies::default();
    while let Some(Due { at, counts }) = due.recv().await {
        match exchange(&mut connection, &load, at).await {
            Ok(measured) if counts => latencies.add(measured),
            Ok(_) => {}
            Err(error) => {
                latencies.failed += 1;
                latencies.problem = Some(format!("{error:#}"));
            }
        }
    }
    latencies
}

async fn exchange(connection: &mut Connection, load: &Load, due: Instant) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    match load.kind {
        Kind::Whole => {
            let (status, _, body) = connection.exchange(load.path, load.body.clone()).await?;
            ensure!(
                status.is_success(),
                "{status} {}",
                String::from_utf8_lossy(&body)
            );
            latencies.all.push(milliseconds(due.elapsed()));
        }
        Kind::Stream { pause } => {
            let arrivals = connection.stream(load.path, load.body.clone()).await?;
            for (number, arrived) in (0..).zip(arrivals) {
                let late = arrived.saturating_duration_since(due + pause * number);
                latencies.all.push(milliseconds(late));
            }
            latencies.first.extend(latencies.all.first());
        }
    }
    Ok(latencies)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

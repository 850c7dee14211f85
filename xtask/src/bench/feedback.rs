//! Feedback in batches, as an app or a survey tool sends it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::bed::Bed;
use super::connection::Connection;
use super::figures::{Figures, Goal, median};

const CONNECTIONS: u64 = 4;
/// Different bodies for each connection, sent in turns.
const BODIES: u64 = 32;

pub(super) async fn measure(bed: &Bed, figures: &mut Figures) -> Result<()> {
    for size in [100, 1000] {
        let mut rates = Vec::new();
        for _ in 0..bed.rounds {
            rates.push(throughput(bed, size).await?);
        }
        let name = format!("feedback in batches of {size}");
        figures.add_goal(
            &name,
            median(&rates),
            "events/s",
            None,
            Goal::AtLeast(20_000.0),
        );
    }
    Ok(())
}

async fn throughput(bed: &Bed, size: u64) -> Result<f64> {
    let duration = Duration::from_secs(bed.seconds);
    let mut workers = JoinSet::new();
    for worker in 0..CONNECTIONS {
        let bodies: Vec<_> = (0..BODIES)
            .map(|number| batch(worker * BODIES + number, size))
            .collect();
        let mut connection = Connection::open(bed.flywheel_address).await?;
        workers.spawn(async move {
            let begun = Instant::now();
            let mut sent = 0;
            for body in bodies.iter().cycle() {
                if begun.elapsed() >= duration {
                    break;
                }
                let (status, _, answer) = connection
                    .exchange("/api/v1/feedback", body.clone())
                    .await?;
                ensure!(
                    status.is_success(),
                    "{status} {}",
                    String::from_utf8_lossy(&answer)
                );
                sent += size;
            }
            Ok(sent as f64 / begun.elapsed().as_secs_f64())
        });
    }
    workers.join_all().await.into_iter().sum()
}

/// A batch on calls whose ids look like ours: time first, then what tells them apart.
fn batch(number: u64, size: u64) -> Bytes {
    let items: Vec<_> = (0..size)
        .map(|item| feedback(number * size + item))
        .collect();
    Value::from(items).to_string().into()
}

fn feedback(number: u64) -> Value {
    let call = format!("01980000-{:04x}-7abc-9def-{number:012x}", number >> 8);
    match number % 4 {
        0 | 1 => json!({"call_id": call, "kind": "thumbs", "value": number.is_multiple_of(8)}),
        2 => json!({"call_id": call, "kind": "rating", "value": number % 5 + 1}),
        _ => json!({"call_id": call, "kind": "comment", "text": "It left out the order number."}),
    }
}

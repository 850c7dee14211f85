//! Measures how fast events are appended: calls of about 2 kB of text, and feedback on them.

use std::io::Write as _;

use flywheel_core::call::Call;
use flywheel_core::feedback::{Feedback, FeedbackBody};
use flywheel_storage::{EventStore as _, NewEvent};
use flywheel_storage_sql::{Durability, SqliteOptions, SqliteStore};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

const GROUP: u64 = 256;
const CALLS: u64 = GROUP * 400;
const FEEDBACK: u64 = GROUP * 2000;

/// A number that looks as random as the ids of users do.
fn scattered(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn call_id(number: u64) -> String {
    format!("019a{number:08x}-7c15-7c15-{:016x}", scattered(number))
}

fn call(number: u64) -> serde_json::Result<NewEvent> {
    let started_at = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_millis(number as i64);
    let hash = flywheel_core::ContentHash::of_bytes(b"x");
    let text = "All work and no play makes a dull benchmark. ".repeat(22);
    let call: Call = serde_json::from_value(json!({
        "id": call_id(number),
        "started_at": started_at,
        "app": "support-summarizer",
        "environment": "production",
        "manifest": hash,
        "prompt": "summary",
        "prompt_version": hash,
        "model_id": "gpt-4o-mini",
        "model_version": "2024-07-18",
        "experiment": "tone",
        "arm": if number.is_multiple_of(2) { "control" } else { "candidate" },
        "unit": format!("user_{}", scattered(number) % 10_000),
        "session": format!("session_{:x}", scattered(number / 4)),
        "status": "ok",
        "finish_reason": "stop",
        "latency_us": 812_345,
        "first_byte_us": 212_345,
        "usage": {"input_tokens": 512, "output_tokens": 256},
        "cost_nano_usd": 123_456,
        "variables": {"n": number},
        "messages": [{"role": "user", "content": text}],
        "output": text,
    }))?;
    Ok(NewEvent::Call(Box::new(call)))
}

/// Most feedback is about one of the last few thousand calls.
fn recent_call(number: u64) -> u64 {
    (number / 5 + CALLS - scattered(number) % 5000) % CALLS
}

fn feedback(number: u64) -> NewEvent {
    NewEvent::Feedback(Box::new(Feedback {
        id: format!("019b{number:08x}-7c15-7c15-{:016x}", scattered(number)),
        call_id: call_id(recent_call(number)),
        body: FeedbackBody::Thumbs {
            value: number.is_multiple_of(3),
        },
        author: None,
        created_at: Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_millis(number as i64),
    }))
}

async fn measure(
    store: &SqliteStore,
    what: &str,
    groups: Vec<Vec<NewEvent>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let begin = Instant::now();
    let mut slowest = std::time::Duration::ZERO;
    let mut events = 0;
    for group in groups {
        let group_begin = Instant::now();
        events += store.append(group).await?.len();
        slowest = slowest.max(group_begin.elapsed());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let rate = events as f64 / seconds;
    writeln!(
        std::io::stdout(),
        "{what}: {rate:.0}/s, slowest group {slowest:?}"
    )?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "append-benchmark.db".to_owned());
    for durability in [Durability::Process, Durability::Disk] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{path}{suffix}"));
        }
        let options = SqliteOptions {
            durability,
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(path.as_ref(), options).await?;
        let mut groups = Vec::new();
        for group in 0..CALLS / GROUP {
            let calls = group * GROUP..(group + 1) * GROUP;
            groups.push(calls.map(call).collect::<Result<Vec<_>, _>>()?);
        }
        measure(&store, &format!("{durability:?}: calls"), groups).await?;
        let groups = (0..FEEDBACK / GROUP)
            .map(|group| (group * GROUP..(group + 1) * GROUP).map(feedback).collect())
            .collect();
        measure(&store, &format!("{durability:?}: feedback"), groups).await?;
        store.close().await?;
        let size = std::fs::metadata(&path)?.len();
        writeln!(std::io::stdout(), "{durability:?}: {size} bytes")?;
    }
    Ok(())
}

//! An experiment with many events: how fast outcomes come in with its statistics kept up to date, how soon it is read, and how
//! long its statistics take to be made again.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use flywheel_core::experiment::Experiment;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::connection::Connection;
use super::figures::{Figures, Goal, quantile};
use super::memory::resident;
use super::processes::{Process, free_address};
use crate::cargo::Workspace;

/// Events of one unit: so many calls, and on each so many outcomes.
const CALLS_PER_UNIT: u32 = 10;
const OUTCOMES_PER_CALL: u32 = 4;
const EVENTS_PER_UNIT: u32 = CALLS_PER_UNIT * (1 + OUTCOMES_PER_CALL);
/// Units whose events are sent together.
const BATCH: u32 = 100;
const CONNECTIONS: u32 = 2;
const READINGS: usize = 20;
const ARMS: [&str; 4] = ["a", "b", "c", "d"];
const EXPERIMENT: &str = "/api/v1/experiments/many";
const PROMPT: &str = "/api/v1/prompts/support%2Fsummary/versions";

pub(super) async fn measure(
    workspace: &Workspace,
    events: u32,
    figures: &mut Figures,
) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("bench-experiments-")
        .tempdir_in(&workspace.target)?;
    let flywheel = workspace.in_production().join("flywheel");
    let address = free_address()?;
    let process = start(&flywheel, &folder.path().join("data"), address)?;
    let mut connection = Connection::open(address).await?;
    let experiment = begin(&mut connection).await?;
    let units = events / EVENTS_PER_UNIT;
    let (mut outcomes, mut seconds) = (0, 0.0);
    for part in 0..10 {
        let numbers = units * part / 10..units * (part + 1) / 10;
        send(address, &experiment, numbers.clone(), Kind::Calls).await?;
        readout(&mut connection).await?;
        let begun = Instant::now();
        let sent = numbers.len() as u32 * CALLS_PER_UNIT * OUTCOMES_PER_CALL;
        send(address, &experiment, numbers, Kind::Outcomes).await?;
        // It says what was acknowledged before it was asked for, so the statistics are up to date when it answers.
        readout(&mut connection).await?;
        outcomes += sent;
        seconds += begun.elapsed().as_secs_f64();
    }
    figures.add_goal(
        "outcomes, statistics kept up to date",
        f64::from(outcomes) / seconds,
        "events/s",
        None,
        Goal::AtLeast(20_000.0),
    );
    let mut milliseconds = Vec::with_capacity(READINGS);
    for _ in 0..READINGS {
        let begun = Instant::now();
        readout(&mut connection).await?;
        milliseconds.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let name = format!("readout of {units} units, 4 arms, 20 metrics");
    let slowest = quantile(&milliseconds, 0.95);
    figures.add_goal(&name, slowest, "ms p95", None, Goal::AtMost(200.0));
    let memory = resident(process.id())?;
    figures.add_goal("memory then", memory, "MB", None, Goal::AtMost(200.0));
    let begun = Instant::now();
    // Other weights move units, which are left out before anything else is read.
    let weights = json!({"weights": [2000, 3000, 2000, 3000]});
    connection.call("PATCH", EXPERIMENT, &weights).await?;
    readout(&mut connection).await?;
    let took = begun.elapsed().as_secs_f64();
    figures.add("readout after a change of weights", took, "s", None);
    let begun = Instant::now();
    let path = format!("{EXPERIMENT}/rebuild");
    connection.call("POST", &path, &json!({})).await?;
    while readout(&mut connection).await?["verdict"]["state"] == "rebuilding" {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let name = format!("statistics made again from {events} events");
    let took = begun.elapsed().as_secs_f64();
    figures.add_goal(&name, took, "s", None, Goal::AtMost(180.0));
    drop(process);
    Ok(())
}

async fn readout(connection: &mut Connection) -> Result<Value> {
    let path = format!("{EXPERIMENT}/readout");
    connection.call("GET", &path, &Value::Null).await
}

/// A server with the app of the demo and hardly any past.
fn start(flywheel: &Path, data: &Path, address: SocketAddr) -> Result<Process> {
    let mut command = Command::new(flywheel);
    command
        .args(["demo", "--calls-per-minute", "0", "--history", "100"])
        .args(["--listen", &address.to_string()])
        .arg("--data")
        .arg(data);
    Process::start("flywheel demo", &mut command, address)
}

/// Makes and starts an experiment with four arms and twenty metrics.
async fn begin(connection: &mut Connection) -> Result<Experiment> {
    let stop = "/api/v1/experiments/shorter-summaries/stop";
    connection.call("POST", stop, &json!({})).await?;
    let found = connection
        .call("GET", &format!("{PROMPT}/1"), &Value::Null)
        .await?;
    let mut content = found["content"].clone();
    content["params"]["temperature"] = json!(0.9);
    connection
        .call("POST", PROMPT, &json!({"content": content}))
        .await?;
    let outcome = |number: u32| json!({"name": format!("m{number}"), "kind": "binary", "source": format!("outcome:m{number}"), "direction": "higher"});
    let mut metrics: Vec<Value> = (0..16).map(outcome).collect();
    for (name, kind) in [
        ("latency_ms", "quantile"),
        ("output_tokens", "continuous"),
        ("hard_failure", "binary"),
        ("calls", "count"),
    ] {
        let source = format!("signal:{name}");
        metrics.push(json!({"name": name, "kind": kind, "source": source, "direction": "lower"}));
    }
    let app = "/api/v1/apps/support-summarizer";
    connection
        .call("PUT", app, &json!({"metrics": metrics}))
        .await?;
    let arm = |(place, name): (usize, &&str)| json!({"name": name, "prompt": "support/summary", "version": (place + 1).to_string(), "weight": 2500});
    let arms: Vec<Value> = ARMS.iter().enumerate().map(arm).collect();
    let plan = json!({"primary": "m0", "mde": {"absolute": 0.02}, "guardrails": []});
    let body = json!({"name": "many", "app": "support-summarizer", "arms": arms, "plan": plan});
    connection
        .call("POST", "/api/v1/experiments", &body)
        .await?;
    let started = connection
        .call("POST", &format!("{EXPERIMENT}/start"), &json!({}))
        .await?;
    serde_json::from_value(started).context("the started experiment cannot be read")
}

#[derive(Clone, Copy)]
enum Kind {
    Calls,
    Outcomes,
}

/// Sends all events of one kind for these units, over a few connections.
async fn send(
    address: SocketAddr,
    experiment: &Experiment,
    units: std::ops::Range<u32>,
    kind: Kind,
) -> Result<()> {
    let mut workers = JoinSet::new();
    for worker in 0..CONNECTIONS {
        let experiment = experiment.clone();
        let units = units.clone();
        let mut connection = Connection::open(address).await?;
        workers.spawn(async move {
            let first = units.start + worker * BATCH;
            for from in (first..units.end).step_by((CONNECTIONS * BATCH) as usize) {
                let batch = from..(from + BATCH).min(units.end);
                let (path, body) = match kind {
                    Kind::Calls => ("/api/v1/calls", calls(&experiment, batch)),
                    Kind::Outcomes => ("/api/v1/feedback", outcomes(batch)),
                };
                let (status, _, answer) =
                    connection.exchange(path, body.to_string().into()).await?;
                let said = String::from_utf8_lossy(&answer);
                ensure!(status.is_success(), "{status} {said}");
            }
            Ok(())
        });
    }
    workers.join_all().await.into_iter().collect()
}

fn calls(experiment: &Experiment, units: std::ops::Range<u32>) -> Value {
    units
        .flat_map(|unit| (0..CALLS_PER_UNIT).map(move |call| (unit, call)))
        .filter_map(|(unit, call)| {
            let user = format!("user_{unit}");
            let arm = &experiment.assign(&user)?.name;
            Some(json!({
                "id": format!("{unit}-{call}"), "app": "support-summarizer", "environment": "production",
                "user": user, "experiment": experiment.name, "arm": arm,
                "latency_ms": 200 + (unit * 7 + call * 31) % 900,
                "usage": {"input_tokens": 100, "output_tokens": 10 + (unit + call) % 40},
            }))
        })
        .collect()
}

fn outcomes(units: std::ops::Range<u32>) -> Value {
    let each = units.flat_map(|unit| {
        (0..CALLS_PER_UNIT)
            .flat_map(move |call| (0..OUTCOMES_PER_CALL).map(move |n| (unit, call, n)))
    });
    each.map(|(unit, call, n)| {
        // Four of the sixteen on each call, others on the next.
        let name = format!("m{}", (call * OUTCOMES_PER_CALL + n) % 16);
        let value = (unit * 13 + call * 5 + n) % 10 < 6;
        json!({"call_id": format!("{unit}-{call}"), "app": "support-summarizer", "kind": "outcome",
               "name": name, "value": value})
    })
    .collect()
}

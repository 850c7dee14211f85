//! The closed loop: wrk sends as fast as it is answered.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::bed::Bed;
use crate::cargo;

#[derive(Deserialize)]
struct Report {
    requests: f64,
    duration_us: f64,
    failed: u64,
}

/// What a closed loop reached.
pub(super) struct Pace {
    /// Answers in a second.
    pub(super) per_second: f64,
    /// Answers altogether.
    pub(super) answers: f64,
}

/// Asks as fast as answers come.
pub(super) fn run(
    bed: &Bed,
    address: SocketAddr,
    path: &str,
    body: &[u8],
    connections: usize,
) -> Result<Pace> {
    let script = bed.wrk_script()?;
    let body = bed.write("body.json", body)?;
    let mut command = Command::new("wrk");
    command
        .env("BENCH_BODY", body)
        .args(["--threads", "2", "--connections", &connections.to_string()])
        .args([
            "--duration",
            &format!("{}s", bed.seconds),
            "--timeout",
            "30s",
        ])
        .arg("--script")
        .arg(script)
        .arg(format!("http://{address}{path}"));
    let output = cargo::output(&mut command)?;
    let line = output.lines().rev().find(|line| line.starts_with('{'));
    let report: Report = serde_json::from_str(line.context("wrk reported nothing")?)?;
    ensure!(
        report.failed == 0,
        "{} of {} requests failed",
        report.failed,
        report.requests
    );
    let per_second = report.requests / report.duration_us * 1e6;
    Ok(Pace {
        per_second,
        answers: report.requests,
    })
}

//! The console on a store with a week of many calls: how long its pages take and how large they are, how soon the server is
//! there, what it takes at rest, and what a call takes on the disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::connection::Connection;
use super::figures::{Figures, Goal, median, quantile};
use super::memory::resident;
use super::processes::{Process, free_address};
use crate::cargo::Workspace;

/// How often each page is asked for.
const VISITS: usize = 20;

/// How long the writing of the week may take.
const WRITING: Duration = Duration::from_secs(900);

/// How long the server is watched at rest, after it had as long to settle.
const REST: Duration = Duration::from_secs(10);

/// Calls of which the texts are measured.
const SAMPLE: usize = 200;

/// The provider of the demo, so that what is deployed can be served.
const CONFIGURATION: &str = "[providers.demo]\nkind = \"simulated\"\n";

const PAGES: [&str; 18] = [
    "/",
    "/?span=30d",
    "/apps/support-summarizer",
    "/apps/support-summarizer/rollback?environment=production",
    "/prompts",
    "/prompts/support%2Fsummary",
    "/playground?prompt=support%2Fsummary",
    "/calls",
    "/calls?status=provider_error",
    "/calls?text=invoice",
    "/sessions",
    "/users",
    "/feedback",
    "/experiments",
    "/experiments/shorter-summaries",
    "/models",
    "/settings",
    "/audit",
];

pub(super) async fn measure(
    workspace: &Workspace,
    calls: u32,
    figures: &mut Figures,
) -> Result<()> {
    // Not below /tmp, which may be memory and not a disk.
    let folder = tempfile::Builder::new()
        .prefix("bench-console-")
        .tempdir_in(&workspace.target)?;
    let flywheel = workspace.in_production().join("flywheel");
    let data = folder.path().join("data");
    write_week(&flywheel, &data, calls)?;
    let config = folder.path().join("flywheel.toml");
    std::fs::write(&config, CONFIGURATION)?;
    let serve = |address: SocketAddr| {
        let mut command = Command::new(&flywheel);
        command.arg("serve").arg("--data").arg(&data);
        command
            .arg("--config")
            .arg(&config)
            .args(["--listen", &address.to_string()]);
        command
    };
    let mut starts = Vec::new();
    for _ in 0..5 {
        let address = free_address()?;
        let begun = Instant::now();
        let process = Process::start("flywheel", &mut serve(address), address)?;
        starts.push(begun.elapsed().as_secs_f64() * 1000.0);
        drop(process);
    }
    figures.add_goal(
        "console: start",
        median(&starts),
        "ms",
        None,
        Goal::AtMost(300.0),
    );
    let address = free_address()?;
    let process = Process::start("flywheel", &mut serve(address), address)?;
    rest("at rest after the start", &process, figures)?;
    visit(address, figures).await?;
    rest("at rest after all pages", &process, figures)?;
    let texts = text_bytes(address).await?;
    drop(process);
    let stored: u64 = std::fs::read_dir(&data)?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    let per_call = stored as f64 / f64::from(calls);
    figures.add("disk of a call with its feedback", per_call, "bytes", None);
    figures.add("text of a call", texts, "bytes", None);
    Ok(())
}

/// The week of the demo, with many calls.
fn write_week(flywheel: &Path, data: &Path, calls: u32) -> Result<()> {
    let address = free_address()?;
    let mut command = Command::new(flywheel);
    command
        .args(["demo", "--calls-per-minute", "0"])
        .args(["--history", &calls.to_string()])
        .args(["--listen", &address.to_string()])
        .arg("--data")
        .arg(data);
    let begun = Instant::now();
    let process = Process::start_within("flywheel demo", &mut command, address, WRITING)?;
    eprintln!(
        "{calls} calls written in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    drop(process);
    Ok(())
}

async fn visit(address: SocketAddr, figures: &mut Figures) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    for path in PAGES {
        let mut milliseconds = Vec::with_capacity(VISITS);
        let mut page = bytes::Bytes::new();
        for _ in 0..VISITS {
            let begun = Instant::now();
            page = connection.get(path).await?;
            milliseconds.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        let mut size = page.len();
        let text = String::from_utf8_lossy(&page);
        for asset in text.split('"').filter(|part| part.starts_with("/assets/")) {
            size += connection.get(asset).await?.len();
        }
        figures.add_goal(
            &format!("page {path}"),
            quantile(&milliseconds, 0.95),
            "ms p95",
            None,
            Goal::AtMost(100.0),
        );
        let kilobytes = size as f64 / 1000.0;
        figures.add_goal(
            "  with its assets",
            kilobytes,
            "kB",
            None,
            Goal::AtMost(150.0),
        );
    }
    Ok(())
}

fn rest(name: &str, process: &Process, figures: &mut Figures) -> Result<()> {
    std::thread::sleep(REST);
    let before = process.processor_seconds()?;
    std::thread::sleep(REST);
    let used = (process.processor_seconds()? - before) / REST.as_secs_f64() * 100.0;
    let name = |what: &str| format!("{what}, {name}");
    figures.add_goal(
        &name("memory"),
        resident(process.id())?,
        "MB",
        None,
        Goal::AtMost(60.0),
    );
    figures.add_goal(&name("processor"), used, "% of 1", None, Goal::AtMost(0.5));
    Ok(())
}

/// The mean length of what a call says: its messages, variables and output.
async fn text_bytes(address: SocketAddr) -> Result<f64> {
    let mut connection = Connection::open(address).await?;
    let list = connection
        .call(
            "GET",
            &format!("/api/v1/calls?limit={SAMPLE}"),
            &Value::Null,
        )
        .await?;
    let items = list["items"].as_array().context("no calls are listed")?;
    let mut bytes = 0;
    for item in items {
        let id = item["id"].as_str().context("a call has no id")?;
        let call = connection
            .call("GET", &format!("/api/v1/calls/{id}"), &Value::Null)
            .await?;
        bytes += ["messages", "variables", "output"]
            .iter()
            .map(|member| call[member].to_string().len())
            .sum::<usize>();
    }
    Ok(bytes as f64 / items.len().max(1) as f64)
}

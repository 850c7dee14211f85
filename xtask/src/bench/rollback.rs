//! Deployments and rollbacks in turns while calls come in: how soon they are acknowledged, and whether they then hold.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::bed::{self, Bed, CHAT};
use super::connection::Connection;
use super::figures::{Figures, Goal, quantile};
use super::open_loop::{self, Kind, Load};
use super::throughput::CONNECTIONS;

/// Connections that ask at once after an acknowledgement, and how often each.
const PROBES: usize = 4;
const CALLS: usize = 5;

pub(super) async fn measure(bed: &Bed, rate: f64, figures: &mut Figures) -> Result<()> {
    let duration = Duration::from_secs(bed.seconds * 2);
    let load = open_loop::run(Load {
        address: bed.flywheel_address,
        path: CHAT,
        body: bed::app_request(&json!({})),
        kind: Kind::Whole,
        rate,
        connections: CONNECTIONS,
        duration,
    });
    let (load, changes) = tokio::join!(load, change(bed, duration));
    let (load, changes) = (load?, changes?);
    figures.add("rollback: calls/s meanwhile", rate, "calls/s", None);
    figures.add(
        "rollback: latency of calls meanwhile, p99",
        load.quantile(0.99),
        "ms",
        None,
    );
    figures.add("rollbacks made", changes.rollbacks.len() as f64, "", None);
    let acknowledged = |share| quantile(&changes.rollbacks, share);
    figures.add("rollback acknowledged, p50", acknowledged(0.5), "ms", None);
    figures.add_goal(
        "rollback acknowledged, p99",
        acknowledged(0.99),
        "ms",
        None,
        Goal::AtMost(50.0),
    );
    figures.add(
        "calls that started right after",
        changes.probes as f64,
        "calls",
        None,
    );
    let violations = changes.violations as f64;
    figures.add_goal(
        "of those served by the manifest before",
        violations,
        "calls",
        None,
        Goal::AtMost(0.0),
    );
    Ok(())
}

#[derive(Default)]
struct Changes {
    /// Milliseconds.
    rollbacks: Vec<f64>,
    probes: usize,
    violations: usize,
}

async fn change(bed: &Bed, duration: Duration) -> Result<Changes> {
    let mut connection = Connection::open(bed.flywheel_address).await?;
    let mut probes = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        probes.push(Connection::open(bed.flywheel_address).await?);
    }
    let [older, newer] = &bed.manifests;
    let mut changes = Changes::default();
    let begun = Instant::now();
    // The newer one is deployed when we begin, and so it is when we end.
    while begun.elapsed() < duration {
        let reason = json!({"reason": "bench"});
        let (took, now) = post(&mut connection, "rollback", &reason).await?;
        ensure!(now == *older, "a rollback went to `{now}`");
        changes.rollbacks.push(took);
        changes.probe(&mut probes, older).await?;
        let wanted = json!({"manifest": newer, "reason": "bench"});
        let (_, now) = post(&mut connection, "deploy", &wanted).await?;
        ensure!(now == *newer, "a deployment went to `{now}`");
        changes.probe(&mut probes, newer).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(changes)
}

/// Makes a change and tells how many milliseconds it took and which manifest serves now.
async fn post(connection: &mut Connection, verb: &str, body: &Value) -> Result<(f64, String)> {
    let begun = Instant::now();
    let answer = connection
        .call("POST", &format!("/api/v1/apps/bench/{verb}"), body)
        .await?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let manifest = answer["deployment"]["manifest"]
        .as_str()
        .context("no manifest")?;
    Ok((took, manifest.to_owned()))
}

impl Changes {
    async fn probe(&mut self, probes: &mut Vec<Connection>, expected: &str) -> Result<()> {
        let mut asking = JoinSet::new();
        for mut connection in probes.drain(..) {
            let expected = expected.to_owned();
            asking.spawn(async move {
                let mut violations = 0;
                for _ in 0..CALLS {
                    let body = bed::app_request(&json!({}));
                    let (status, headers, _) = connection.exchange(CHAT, body).await?;
                    ensure!(status.is_success(), "a call was answered with {status}");
                    let manifest = headers.get("flywheel-manifest");
                    let manifest = manifest.context("no header `flywheel-manifest`")?;
                    violations += usize::from(manifest.as_bytes() != expected.as_bytes());
                }
                Ok((connection, violations))
            });
        }
        for asked in asking.join_all().await {
            let (connection, violations) = asked?;
            probes.push(connection);
            self.probes += CALLS;
            self.violations += violations;
        }
        Ok(())
    }
}

//! Background jobs: keeping the routing table fresh, retention, scheduled rehearsals.

use std::time::Duration;

use flywheel_storage::StorageResult;
use flywheel_storage::events::PruneBound;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::operations::experiments::{self, Aborted};
use crate::operations::rehearse::{self, Rehearsal};

/// How often the state is looked at for changes that another process made.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// How often measurements are summed up; until then each one takes its place in memory.
const SUM_UP_EVERY: Duration = Duration::from_secs(5);
/// How often the store does its housekeeping.
const MAINTAIN_EVERY: Duration = Duration::from_millis(500);
/// How often the guardrails of running experiments are looked at.
const GUARD_EVERY: Duration = Duration::from_secs(10);
/// How often retention is enforced.
const RETAIN_EVERY: Duration = Duration::from_secs(60);

/// What the jobs are to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobOptions {
    /// Events older than this are removed.
    pub retain_for: Option<Duration>,
    /// The oldest events are removed when the store is larger than this.
    pub retain_bytes: Option<u64>,
    /// How often every app's way back is rehearsed.
    pub rehearse_every: Option<Duration>,
    /// Whether that makes real calls.
    pub rehearse_with_probe: bool,
}

/// Starts the jobs. They end at `shutdown`.
pub fn start(
    context: &Context,
    options: JobOptions,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    let spawn = |job: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = job => {}
            }
        });
    };
    spawn(Box::pin(refresh(context.clone())));
    spawn(Box::pin(maintain(context.clone())));
    spawn(Box::pin(retain(context.clone(), options)));
    spawn(Box::pin(sum_up_metrics(context.clone())));
    spawn(Box::pin(guard_experiments(context.clone())));
    if let Some(every) = options.rehearse_every {
        spawn(Box::pin(rehearse_all(
            context.clone(),
            every,
            options.rehearse_with_probe,
        )));
    }
}

async fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; what it would do was done at the start.
    interval.tick().await;
    interval
}

async fn refresh(context: Context) {
    let mut interval = every(REFRESH_EVERY).await;
    loop {
        interval.tick().await;
        let known = context.table.load().revision;
        let outcome = match context.state.revision().await {
            Ok(revision) if revision == known => Ok(()),
            Ok(_) => context.reload().await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::warn!(error.message = %error, "the state could not be read; what was in force stays so");
        }
    }
}

async fn maintain(context: Context) {
    let mut interval = every(MAINTAIN_EVERY).await;
    let mut failed_before = false;
    loop {
        interval.tick().await;
        let outcome = context.events.maintain().await;
        if let (Err(error), false) = (&outcome, failed_before) {
            tracing::warn!(error.message = %error.chain(), "the store could not be maintained; it is tried again");
        }
        failed_before = outcome.is_err();
    }
}

async fn sum_up_metrics(context: Context) {
    let mut interval = every(SUM_UP_EVERY).await;
    while let Some(metrics) = &context.metrics {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

/// Stops experiments that do harm. Harm may be acted on at any look.
async fn guard_experiments(context: Context) {
    let mut interval = every(GUARD_EVERY).await;
    loop {
        interval.tick().await;
        match experiments::abort_violated(&context).await {
            Ok(aborted) => {
                for Aborted { experiment, arm } in aborted {
                    let what = if arm.is_some() { "arm" } else { "experiment" };
                    metrics::counter!("flywheel_experiments_aborted_total", "stopped" => what)
                        .increment(1);
                    match arm {
                        Some(arm) => {
                            tracing::error!(experiment.name = %experiment, experiment.arm = %arm, "a guardrail was violated; the arm is stopped, the others go on");
                        }
                        None => {
                            tracing::error!(experiment.name = %experiment, "a guardrail was violated; the experiment is stopped");
                        }
                    }
                }
            }
            Err(problem) => {
                tracing::warn!(error.message = %problem.detail(), "the guardrails of experiments could not be looked at");
            }
        }
    }
}

async fn retain(context: Context, options: JobOptions) {
    let mut interval = every(RETAIN_EVERY).await;
    loop {
        interval.tick().await;
        if let Err(error) = enforce_retention(&context, &options).await {
            tracing::warn!(error.message = %error.chain(), "old events could not be removed");
        }
    }
}

/// Removes the events that are not to be kept.
///
/// # Errors
/// When the store fails; what was removed until then stays so.
pub async fn enforce_retention(context: &Context, options: &JobOptions) -> StorageResult<()> {
    let oldest = options
        .retain_for
        .and_then(|age| context.sources.clock.now().checked_sub(age).ok());
    if let Some(time) = oldest {
        prune(context, PruneBound::Before(time)).await?;
    }
    let Some(bytes) = options.retain_bytes else {
        return Ok(());
    };
    let lasting = context.events.lasting_bytes().await?;
    if bytes <= lasting {
        // No event would be left, however new, and the bound would not be met all the same.
        tracing::warn!(
            retention.bytes = bytes,
            store.lasting_bytes = lasting,
            "`retention.bytes` is less than what is no event takes; nothing is removed for it, raise it"
        );
        return Ok(());
    }
    prune(context, PruneBound::Bytes(bytes)).await
}

async fn prune(context: &Context, bound: PruneBound) -> StorageResult<()> {
    loop {
        let removed = context.events.prune(bound).await?;
        if removed == 0 {
            return Ok(());
        }
        metrics::counter!("flywheel_events_pruned_total").increment(removed);
        // Between two steps the writers get their turn.
        tokio::task::yield_now().await;
    }
}

async fn rehearse_all(context: Context, period: Duration, probe: bool) {
    let mut interval = every(period).await;
    loop {
        interval.tick().await;
        let apps: Vec<_> = context.table.load().apps().cloned().collect();
        for app in apps {
            let rehearsal = Rehearsal {
                probe,
                ..Rehearsal::default()
            };
            let failed = match rehearse::rehearse(&context, &app, &rehearsal).await {
                Ok(rehearsed) => rehearsed
                    .into_iter()
                    .filter(|item| !item.passed())
                    .collect(),
                Err(problem) => {
                    tracing::warn!(app.name = %app, error.message = %problem.detail(), "a rehearsal could not be made");
                    Vec::new()
                }
            };
            let gauge = metrics::gauge!("flywheel_rehearsal_failures", "app" => app.to_string());
            gauge.set(failed.len() as f64);
            for item in failed {
                let mut problems = item.preflight.problems();
                problems.extend(item.probe.and_then(|probe| probe.problem));
                tracing::error!(
                    app.name = %app,
                    manifest.id = %item.manifest,
                    problems = %problems.join("; "),
                    "the way back to this manifest is not clear"
                );
            }
        }
    }
}

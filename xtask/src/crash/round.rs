//! One round: load, an end at a random moment, a new start, a check.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Durability;
use super::check::{AuditSeen, Checker, Scope};
use super::client::Client;
use super::ledger::{Ledger, Violation};
use super::load::{self, Shared, lock};
use super::report::Report;
use super::server::{Installation, Server};
use super::setup;
use super::upstream::Upstream;
use crate::random::Random;

/// How long requests may take to end after SIGTERM. The provider's longest answer takes half a second.
const DRAIN: Duration = Duration::from_secs(15);
/// How often the command line verifies the audit log too.
const VERIFY_EVERY: u32 = 5;

/// How the server ends in a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// SIGKILL.
    Kill,
    /// SIGTERM: what is under way ends properly.
    Terminate,
    /// SIGTERM, and SIGKILL before it is done.
    KillWhileDraining,
}

impl Ending {
    fn of_round(number: u32) -> Self {
        match number % 10 {
            4 | 9 => Self::Terminate,
            7 => Self::KillWhileDraining,
            _ => Self::Kill,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Terminate => "SIGTERM",
            Self::KillWhileDraining => "both",
        }
    }
}

/// All that lasts over the rounds.
pub(super) struct Rounds {
    installation: Installation,
    upstream: Upstream,
    ledger: Arc<Mutex<Ledger>>,
    manifests: Arc<[String; 2]>,
    random: Random,
    audit: AuditSeen,
    /// The server that the next round puts under load.
    server: Server,
    client: Arc<Client>,
}

impl Rounds {
    /// Starts the provider and a new server, and fills it.
    pub(super) async fn prepare(
        installation: Installation,
        durability: Durability,
        random: Random,
    ) -> Result<Self> {
        let upstream = Upstream::start().await?;
        setup::configure(&installation, durability, &upstream)?;
        let (server, _) = installation.start().await?;
        let client = Arc::new(Client::new(&server.base));
        let ledger = Arc::<Mutex<Ledger>>::default();
        let manifests = Arc::new(setup::fill(&client, &ledger).await?);
        let verified = load::must(client.get("/api/v1/audit/verify"), "the audit log").await?;
        let base = verified["entries"].as_u64();
        let audit = AuditSeen {
            base: base.context("the audit log does not tell its length")?,
            ..AuditSeen::default()
        };
        Ok(Self {
            installation,
            upstream,
            ledger,
            manifests,
            random,
            audit,
            server,
            client,
        })
    }

    pub(super) async fn run(&mut self, number: u32, of: u32, report: &mut Report) -> Result<()> {
        let before = lock(&self.ledger).tally;
        let ending = Ending::of_round(number);
        let moment = self.random.milliseconds(50..800);
        let cut_off = self.load_and_end(number, ending, moment).await?;

        report.rounds += 1;
        match ending {
            Ending::Kill => report.kills += 1,
            Ending::Terminate => report.terminations += 1,
            Ending::KillWhileDraining => report.kills_while_draining += 1,
        }
        if ending != Ending::Terminate {
            report.cut_off += cut_off;
            report.kills_in_flight += u32::from(cut_off > 0);
        }
        if self.random.one_in(4) {
            // Also while it is starting, when it may be cleaning up after the last time.
            let mut starting = self.installation.spawn()?;
            sleep(self.random.milliseconds(0..80)).await;
            starting.kill()?;
            report.kills_while_starting += 1;
        }
        let ready = self.restart().await?;
        report.slowest_start = report.slowest_start.max(ready);
        self.check(Scope::Round(number)).await?;
        if number.is_multiple_of(VERIFY_EVERY) {
            self.verify_by_command()?;
        }

        let now = lock(&self.ledger).tally;
        eprintln!(
            "round {number:>3}/{of} {:<7} after {:>3} ms: {:>3} calls, {:>3} streams, {:>3} logged, {:>3} feedback, \
             {:>2} moves; {cut_off:>2} in flight, {:>2} found unacknowledged, ready in {:.2} s",
            ending.name(),
            moment.as_millis(),
            now.calls - before.calls,
            now.streams - before.streams,
            now.logged - before.logged,
            now.feedback - before.feedback,
            now.deployments - before.deployments,
            now.found - before.found,
            ready.as_secs_f64(),
        );
        Ok(())
    }

    /// Checks everything once more, and that the server still ends properly.
    pub(super) async fn finish(&mut self) -> Result<()> {
        eprintln!("everything once more");
        self.check(Scope::Everything).await?;
        self.verify_by_command()?;
        self.server.terminate()?;
        self.expect_success().await
    }

    /// Hands what was counted over to the report.
    pub(super) fn note(&self, report: &mut Report) {
        let ledger = lock(&self.ledger);
        report.note(&ledger);
    }

    /// Puts the server under load and ends it. Returns how many requests were in flight at that moment.
    async fn load_and_end(
        &mut self,
        number: u32,
        ending: Ending,
        moment: Duration,
    ) -> Result<usize> {
        let shared = Shared {
            client: Arc::clone(&self.client),
            ledger: Arc::clone(&self.ledger),
            stopped: Arc::new(AtomicBool::new(false)),
            manifests: Arc::clone(&self.manifests),
            round: number,
        };
        self.upstream.take_asked();
        let workers = load::start(&shared, &mut self.random);
        sleep(moment).await;
        // Whatever had reached the provider by now was under way.
        let asked = self.upstream.take_asked();
        let in_flight = self.client.in_flight();
        match ending {
            Ending::Kill => self.server.kill()?,
            Ending::Terminate => self.server.terminate()?,
            Ending::KillWhileDraining => {
                self.server.terminate()?;
                sleep(self.random.milliseconds(0..60)).await;
                self.server.make_gone();
            }
        }
        if ending == Ending::Terminate {
            // For a moment clients go on as if nothing had happened.
            sleep(Duration::from_millis(20)).await;
        }
        shared.stopped.store(true, Ordering::Relaxed);
        join(workers).await?;
        if ending == Ending::Terminate {
            self.expect_success().await?;
            self.check_drained(&asked);
        }
        Ok(in_flight)
    }

    async fn expect_success(&mut self) -> Result<()> {
        let status = self.server.ended(DRAIN).await?;
        if !status.success() {
            let text = format!("after SIGTERM the server ended with {status}");
            lock(&self.ledger).violate(Violation::wrong(text));
        }
        Ok(())
    }

    /// Calls that were under way at SIGTERM were answered and acknowledged.
    fn check_drained(&self, asked: &HashSet<String>) {
        let mut ledger = lock(&self.ledger);
        let cut_off: Vec<_> = asked
            .iter()
            .filter(|token| {
                let call = ledger.calls.get(*token);
                call.is_some_and(|call| call.id.is_none() && !call.abandoned)
            })
            .cloned()
            .collect();
        for token in cut_off {
            let text = format!("call `{token}` was under way at SIGTERM and was cut off");
            ledger.violate(Violation::lost(text));
        }
    }

    async fn restart(&mut self) -> Result<Duration> {
        let (server, ready) = self.installation.start().await?;
        self.client = Arc::new(Client::new(&server.base));
        self.server = server;
        Ok(ready)
    }

    async fn check(&mut self, scope: Scope) -> Result<()> {
        let mut checker = Checker {
            client: Arc::clone(&self.client),
            ledger: Arc::clone(&self.ledger),
            audit: self.audit.clone(),
        };
        checker.check(scope, &mut self.random).await?;
        self.audit = checker.audit;
        Ok(())
    }

    /// `flywheel audit verify` says the same as the API.
    fn verify_by_command(&self) -> Result<()> {
        let help = ["audit", "verify", "--help"];
        let has_command = self.installation.command(&help).output()?.status.success();
        if !has_command && self.installation.is_given {
            eprintln!("the binary that was given has no `audit verify`");
            return Ok(());
        }
        let mut command = self.installation.command(&["audit", "verify"]);
        let output = command.env("FLYWHEEL_URL", &self.server.base).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let text = format!("`flywheel audit verify` failed: {}", said.trim());
            lock(&self.ledger).violate(Violation::wrong(text));
        }
        Ok(())
    }
}

async fn join(mut workers: JoinSet<()>) -> Result<()> {
    let joined = async {
        while let Some(ended) = workers.join_next().await {
            ended.context("a worker panicked")?;
        }
        anyhow::Ok(())
    };
    let ended = timeout(DRAIN, joined).await;
    ensure!(
        ended.is_ok(),
        "requests neither ended nor broke within {DRAIN:?} of the signal"
    );
    ended?
}

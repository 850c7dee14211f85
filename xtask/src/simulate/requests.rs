//! Goal 9: identical arms stay identical when an app sends *requests* to the API of a running server, and of its users nothing
//! but a name with each request.
//!
//! Users send twenty requests on average, and a user's outcomes of one metric are alike: requests are far from independent.
//! Every metric of every experiment is one test; the naive one beside it takes requests for users.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use flywheel_stats::two_proportions::chi_squared;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::draw::Draw;
use super::level::ALPHA;
use super::runs::{Count, Plan};
use super::table::Table;
use crate::bench::connection::Connection;
use crate::bench::processes::{Process, free_address};
use crate::cargo::Workspace;

/// What may be told apart at most.
const BOUND: f64 = 0.06;
const METRICS: usize = 20;
const RATE: f64 = 0.6;
const CORRELATION: f64 = 0.2;
/// Of one user, on average; users differ as much as geometric numbers do.
const REQUESTS: f64 = 20.0;
/// What the plan looks for. With users like these it takes about three hundred, for which the sequence is then tightest.
const EFFECT: f64 = 0.1;
/// Users who came before the experiment, from whose requests the plan learns how alike they are.
const EARLIER_USERS: u64 = 200;
/// How often the readout is looked at while outcomes come in.
const LOOKS: usize = 10;
/// Experiments on one server, whose data folder would otherwise grow with them.
const TOGETHER: u64 = 10;
/// Requests, and outcomes, that are sent at once.
const CALLS: usize = 500;
const OUTCOMES: usize = 4000;

/// What became of one metric of one experiment.
#[derive(Clone, Copy, Default)]
struct Found {
    /// Whether any look called an arm better or worse.
    ever: bool,
    /// Whether the interval for one look, at the end, excludes no difference.
    fixed: bool,
    /// The same of a test that takes requests for users.
    naive: bool,
}

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let workspace = Workspace::load()?;
    let binary = workspace.flywheel(!plan.short)?;
    let experiments = plan.runs(100, 2);
    let users = plan.runs(320, 240);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut found = Vec::new();
    for first in (0..experiments).step_by(TOGETHER as usize) {
        let server = Server::start(&binary, &workspace)?;
        let numbers = first..(first + TOGETHER).min(experiments);
        found.extend(runtime.block_on(run(plan, server.address, numbers, users))?);
    }
    let about = format!(
        "identical arms told apart, {experiments} experiments × {METRICS} metrics through the API, ICC .2"
    );
    let count = |is: fn(&Found) -> bool| {
        let happened: Vec<bool> = found.iter().flatten().map(is).collect();
        Count::of(&happened)
    };
    for (what, is) in [
        (
            "at any of ten looks",
            (|found| found.ever) as fn(&Found) -> bool,
        ),
        ("by the interval for one look", |found| found.fixed),
    ] {
        table.at_most(9, &format!("{about}: {what}"), count(is), BOUND)?;
        table.note(&spread(&found, is));
    }
    let naive = count(|found| found.naive);
    let share = format!("{:.4}", naive.share());
    table.show(9, "the same by χ² over requests", naive.runs, share);
    table.note("what taking requests for users would claim on the same outcomes");
    Ok(())
}

/// The standard error as the experiments tell it: metrics of one share its users, if nothing else.
fn spread(found: &[Vec<Found>], is: fn(&Found) -> bool) -> String {
    let shares: Vec<f64> = found
        .iter()
        .map(|metrics| metrics.iter().filter(|found| is(found)).count() as f64 / METRICS as f64)
        .collect();
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
    let error = (squares / (n - 1.0) / n).sqrt();
    format!("standard error {error:.4}, from what the experiments differ by")
}

/// A server with an app to come and a model that answers nobody.
struct Server {
    address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    fn start(binary: &PathBuf, workspace: &Workspace) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("simulate-requests-")
            .tempdir_in(&workspace.target)?;
        let configuration = folder.path().join("flywheel.toml");
        fs::write(&configuration, "[providers.none]\nkind = \"simulated\"\n")?;
        let address = free_address()?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", &address.to_string()])
            .arg("--data")
            .arg(folder.path().join("data"))
            .arg("--config")
            .arg(configuration)
            .stderr(File::create(folder.path().join("server.log"))?);
        let process = Process::start("flywheel serve", &mut command, address)?;
        Ok(Self {
            address,
            _process: process,
            _folder: folder,
        })
    }
}

async fn run(
    plan: &Plan,
    address: SocketAddr,
    numbers: std::ops::Range<u64>,
    users: u64,
) -> Result<Vec<Vec<Found>>> {
    push_prompt(&mut Connection::open(address).await?).await?;
    let (even, odd): (Vec<u64>, Vec<u64>) = numbers.partition(|number| number % 2 == 0);
    let (mut found, more) = tokio::try_join!(
        one_by_one(plan, address, even, users),
        one_by_one(plan, address, odd, users)
    )?;
    found.extend(more);
    Ok(found)
}

async fn one_by_one(
    plan: &Plan,
    address: SocketAddr,
    numbers: Vec<u64>,
    users: u64,
) -> Result<Vec<Vec<Found>>> {
    let mut connection = Connection::open(address).await?;
    let mut found = Vec::new();
    for number in numbers {
        let draw = Draw::of_run(plan.seed, "requests", number);
        let app = format!("shop-{number}");
        let mut experiment = Experiment::begin(&mut connection, app, draw).await?;
        found.push(experiment.run(users).await?);
    }
    Ok(found)
}

async fn push_prompt(connection: &mut Connection) -> Result<()> {
    let content = json!({
        "template_format": "fstring",
        "messages": [{"role": "user", "content": "Answer."}],
        "model_id": "none",
        "model_version": "1",
    });
    let body = json!({
        "models": [{"model_id": "none", "model_version": "1", "provider": "none"}],
        "prompts": [{"prompt": "answer", "content": content}],
    });
    connection.call("POST", "/api/v1/push", &body).await?;
    Ok(())
}

/// A user's requests, and of every metric what usually comes of them.
struct User {
    name: String,
    arm: usize,
    /// At which look the user arrives; the requests spread over that and those that follow.
    arrives: usize,
    requests: usize,
    sent: usize,
    usual: [bool; METRICS],
}

impl User {
    fn new(name: String, arrives: usize, draw: &mut Draw) -> Self {
        Self {
            name,
            arm: 0,
            arrives,
            requests: draw.requests(REQUESTS) as usize,
            sent: 0,
            usual: std::array::from_fn(|_| draw.chance(RATE)),
        }
    }

    /// How many requests there are until the end of a look.
    fn until(&self, look: usize) -> usize {
        match (look + 1).checked_sub(self.arrives) {
            Some(looks) => self.requests * looks / (LOOKS - self.arrives),
            None => 0,
        }
    }

    /// What comes of a request: the usual, or something of its own, so that any two have the correlation.
    fn outcome(&self, metric: usize, draw: &mut Draw) -> bool {
        match draw.chance(CORRELATION.sqrt()) {
            true => self.usual[metric],
            false => draw.chance(RATE),
        }
    }
}

/// An experiment between two arms that serve the same, in an app of its own.
struct Experiment<'c> {
    connection: &'c mut Connection,
    app: String,
    draw: Draw,
    calls: Batch,
    outcomes: Batch,
    /// Failures and successes by arm and metric, over requests.
    counts: [[[u64; 2]; METRICS]; 2],
}

impl<'c> Experiment<'c> {
    async fn begin(connection: &'c mut Connection, app: String, draw: Draw) -> Result<Self> {
        let metric = |number| json!({"name": format!("m{number}"), "kind": "binary", "source": format!("outcome:m{number}"), "direction": "higher"});
        let metrics: Vec<Value> = (0..METRICS).map(metric).collect();
        let path = format!("/api/v1/apps/{app}");
        connection
            .call("PUT", &path, &json!({"metrics": metrics}))
            .await?;
        let deployed = json!({"prompt": "answer", "reason": "to be compared with itself"});
        connection
            .call("POST", &format!("{path}/deploy"), &deployed)
            .await?;
        let mut experiment = Self {
            connection,
            app,
            draw,
            calls: Batch::new("/api/v1/calls", CALLS),
            outcomes: Batch::new("/api/v1/feedback", OUTCOMES),
            counts: [[[0; 2]; METRICS]; 2],
        };
        experiment.tell_the_past().await?;
        experiment.start().await?;
        Ok(experiment)
    }

    /// Requests before the experiment, with outcomes of the metric that decides.
    async fn tell_the_past(&mut self) -> Result<()> {
        for number in 0..EARLIER_USERS {
            let user = User::new(format!("earlier_{number}"), 0, &mut self.draw);
            for request in 0..user.requests {
                self.log(&user.name, request, None).await?;
                let outcome = user.outcome(0, &mut self.draw);
                self.say(&user.name, request, 0, outcome).await?;
            }
        }
        self.flush().await
    }

    async fn start(&mut self) -> Result<()> {
        let arm = |name: &str| json!({"name": name, "prompt": "answer", "weight": 5000});
        let plan =
            json!({"primary": "m0", "mde": {"absolute": EFFECT}, "guardrails": [], "aa": true});
        let body =
            json!({"name": self.app, "app": self.app, "arms": [arm("a"), arm("b")], "plan": plan});
        self.connection
            .call("POST", "/api/v1/experiments", &body)
            .await?;
        let path = format!("/api/v1/experiments/{}/start", self.app);
        let started = self.connection.call("POST", &path, &json!({})).await?;
        ensure!(
            started["plan"]["size"].is_object(),
            "the plan learned nothing from earlier requests: {}",
            started["plan"]
        );
        Ok(())
    }

    /// Sends the users' requests and outcomes and reads the readout between them.
    async fn run(&mut self, users: u64) -> Result<Vec<Found>> {
        let mut there = Vec::new();
        for number in 0..users {
            let arrives = number as usize * LOOKS / users as usize;
            let mut user = User::new(format!("user_{number}"), arrives, &mut self.draw);
            user.arm = self.arm_of(&user.name).await?;
            there.push(user);
        }
        let mut found = vec![Found::default(); METRICS];
        let mut readout = Value::Null;
        for look in 0..LOOKS {
            for user in &mut there {
                self.send(user, look).await?;
            }
            self.flush().await?;
            let path = format!("/api/v1/experiments/{}/readout", self.app);
            readout = self.connection.call("GET", &path, &Value::Null).await?;
            for (number, found) in found.iter_mut().enumerate() {
                let finding = &compared(&readout, number)?["finding"];
                found.ever |= finding == "better" || finding == "worse";
            }
        }
        for (number, found) in found.iter_mut().enumerate() {
            self.must_have_read_all(&readout, number)?;
            let compared = compared(&readout, number)?;
            let bound = |name: &str| {
                let bound = compared[name].as_f64();
                bound.with_context(|| format!("no `{name}` of m{number}: {compared}"))
            };
            found.fixed = bound("fixed_low")? > 0.0 || bound("fixed_high")? < 0.0;
            let table: Vec<Vec<u64>> = (0..2)
                .map(|arm| self.counts[arm][number].to_vec())
                .collect();
            found.naive = chi_squared(&table, false)?.p < ALPHA;
        }
        Ok(found)
    }

    /// Which arm the server has for a user.
    async fn arm_of(&mut self, user: &str) -> Result<usize> {
        let path = format!("/api/v1/apps/{}/resolve", self.app);
        let body = json!({"user": user});
        let resolved = self.connection.call("POST", &path, &body).await?;
        match resolved["arm"].as_str() {
            Some("a") => Ok(0),
            Some("b") => Ok(1),
            _ => anyhow::bail!("`{user}` has no arm: {resolved}"),
        }
    }

    async fn send(&mut self, user: &mut User, look: usize) -> Result<()> {
        for request in user.sent..user.until(look) {
            self.log(&user.name, request, Some(user.arm)).await?;
            for metric in 0..METRICS {
                let outcome = user.outcome(metric, &mut self.draw);
                self.counts[user.arm][metric][usize::from(outcome)] += 1;
                self.say(&user.name, request, metric, outcome).await?;
            }
        }
        user.sent = user.sent.max(user.until(look));
        Ok(())
    }

    /// Every request counted, or the figures are of something else.
    fn must_have_read_all(&self, readout: &Value, number: usize) -> Result<()> {
        let metric = metric(readout, number)?;
        for arm in 0..2 {
            let [failures, successes] = self.counts[arm][number];
            let sums = &metric["arms"][arm]["sums"];
            ensure!(
                sums["x"] == json!(successes as f64)
                    && sums["y"] == json!((failures + successes) as f64),
                "m{number}: sent {successes} of {} in arm {arm}, read {sums}",
                failures + successes
            );
        }
        Ok(())
    }

    async fn log(&mut self, user: &str, request: usize, arm: Option<usize>) -> Result<()> {
        let app = &self.app;
        write!(
            self.calls.next(),
            r#"{{"id":"{user}-{request}","app":"{app}","user":"{user}""#
        )?;
        if let Some(arm) = arm {
            let name = ["a", "b"][arm];
            write!(self.calls.text, r#","experiment":"{app}","arm":"{name}""#)?;
        }
        self.calls.text.push('}');
        match self.calls.is_full() {
            true => self.calls.send(self.connection).await,
            false => Ok(()),
        }
    }

    async fn say(
        &mut self,
        user: &str,
        request: usize,
        metric: usize,
        outcome: bool,
    ) -> Result<()> {
        let app = &self.app;
        write!(
            self.outcomes.next(),
            r#"{{"call_id":"{user}-{request}","app":"{app}","kind":"outcome","name":"m{metric}","value":{outcome}}}"#
        )?;
        match self.outcomes.is_full() {
            true => self.outcomes.send(self.connection).await,
            false => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        self.calls.send(self.connection).await?;
        self.outcomes.send(self.connection).await
    }
}

/// Events that are sent together, as the text of a JSON array.
struct Batch {
    path: &'static str,
    most: usize,
    text: String,
    items: usize,
}

impl Batch {
    fn new(path: &'static str, most: usize) -> Self {
        Self {
            path,
            most,
            text: "[".to_owned(),
            items: 0,
        }
    }

    /// Where the next item is written to.
    fn next(&mut self) -> &mut String {
        if self.items > 0 {
            self.text.push(',');
        }
        self.items += 1;
        &mut self.text
    }

    fn is_full(&self) -> bool {
        self.items >= self.most
    }

    async fn send(&mut self, connection: &mut Connection) -> Result<()> {
        if self.items == 0 {
            return Ok(());
        }
        self.text.push(']');
        self.items = 0;
        let body = std::mem::replace(&mut self.text, "[".to_owned());
        let (status, _, answer) = connection.exchange(self.path, body.into()).await?;
        let said = String::from_utf8_lossy(&answer);
        ensure!(status.is_success(), "{}: {status} {said}", self.path);
        Ok(())
    }
}

fn metric(readout: &Value, number: usize) -> Result<&Value> {
    let name = format!("m{number}");
    let metrics = readout["metrics"].as_array().into_iter().flatten();
    let mut named = metrics.filter(|metric| metric["metric"]["name"] == name);
    named
        .next()
        .with_context(|| format!("the readout has no `{name}`"))
}

fn compared(readout: &Value, number: usize) -> Result<&Value> {
    Ok(&metric(readout, number)?["comparisons"][0])
}

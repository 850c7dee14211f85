//! Runs the server: opens the data folder, listens, and on a signal lets what is under way come to its end.

mod address;
mod data_folder;
mod logging;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use arc_swap::ArcSwap;
use flywheel_gateway::recorder::{Recorder, RecorderOptions};
use flywheel_gateway::routing::SharedTable;
use flywheel_gateway::{Gateway, GatewayOptions};
use flywheel_server::console::session::Sessions;
use flywheel_server::context::Shared;
use flywheel_server::jobs::{self, JobOptions};
use flywheel_server::rate_limit::RateLimiter;
use flywheel_server::{Context, ServerOptions, listen, router};
use flywheel_storage_sql::{SqliteOptions, SqliteStore};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config};
use crate::printer::Printer;
use crate::system;

pub(crate) use data_folder::DataFolder;

pub(crate) const DEFAULT_PORT: u16 = 7700;
/// How long the last group of records may take.
const LAST_RECORDS: Duration = Duration::from_secs(10);

/// How long it may take after a second signal.
const LAST_RECORDS_AT_ONCE: Duration = Duration::from_millis(500);

/// Run the server
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Folder for everything the server keeps
    #[arg(long, env = "FLYWHEEL_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:7700]
    #[arg(long, env = "FLYWHEEL_LISTEN", value_name = "ADDR", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// Configuration file [default: flywheel.toml, if there is one]
    #[arg(long, env = "FLYWHEEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the server until it is told to stop.
pub(crate) fn run(args: ServeArgs, printer: &Printer) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    start_logging(&config)?;
    let data = args
        .data
        .or_else(|| config.data.clone())
        .unwrap_or_else(|| "flywheel-data".into());
    let address = match (args.listen, &config.listen) {
        (Some(address), _) => address,
        (None, Some(text)) => parse_address(text)
            .map_err(|expected| anyhow!("`listen` in the configuration is `{text}`: {expected}"))?,
        (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    let folder = open_folder(&data)?;
    let server = Server {
        config: &config,
        folder: &folder,
        address,
        notice: None,
    };
    runtime.block_on(server.run(printer, |_, _, _| {}))
}

/// Starts the log of a server.
pub(crate) fn start_logging(config: &Config) -> Result<()> {
    logging::start(&config.log)
}

/// Opens a data folder for a server.
pub(crate) fn open_folder(path: &std::path::Path) -> Result<DataFolder> {
    data_folder::open(path)
}

pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.replace("localhost", "127.0.0.1");
    text.parse()
        .map_err(|_| "expected an address and a port, such as `127.0.0.1:7700`".to_owned())
}

/// A server that is about to run.
pub(crate) struct Server<'a> {
    /// What it is configured to do.
    pub(crate) config: &'a Config,
    /// Where it keeps everything.
    pub(crate) folder: &'a DataFolder,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What every page of the console says.
    pub(crate) notice: Option<String>,
}

impl Server<'_> {
    /// Runs until a signal. `beside` is called once requests are taken, and may start tasks of its own, which end with
    /// the token.
    pub(crate) async fn run(
        self,
        printer: &Printer,
        beside: impl FnOnce(SocketAddr, CancellationToken, &TaskTracker),
    ) -> Result<ExitCode> {
        serve(self, printer, beside).await
    }
}

async fn serve(
    server: Server<'_>,
    printer: &Printer,
    beside: impl FnOnce(SocketAddr, CancellationToken, &TaskTracker),
) -> Result<ExitCode> {
    let Server {
        config,
        folder,
        address,
        notice,
    } = server;
    let mut signals = Signals::listen()?;
    let options = SqliteOptions {
        durability: config.durability.into(),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&folder.database(), options)
        .await
        .with_context(|| {
            format!(
                "the store in `{}` cannot be opened",
                folder.path().display()
            )
        })?;
    let store = Arc::new(store);
    let (recording, running, connections) =
        (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
    let shutdown = CancellationToken::new();
    let context = load_context(
        config,
        &store,
        address.ip(),
        notice,
        &shutdown,
        &recording,
        &running,
    )
    .await?;
    if !address.ip().is_loopback() && !context.keys.load().any_made() {
        bail!(
            "no key was made yet, so the server may listen on the loopback address only, not on {address}; \
             start it on 127.0.0.1, run `flywheel key create NAME --role admin`, then start it on {address}"
        );
    }
    let listener = address::listen_on(address).await?;
    let address = listener.local_addr()?;
    jobs::start(&context, job_options(config), &shutdown, &running);
    let accepting = listen::serve(
        listener,
        router::router(&context),
        shutdown.clone(),
        connections.clone(),
    );
    running.spawn(accepting);
    tracing::info!(server.address = %address, data.folder = %folder.path().display(), "listening");
    printer.note(&format!(
        "listening on http://{address}, data in {}",
        folder.path().display()
    ));
    beside(address, shutdown.clone(), &running);

    let name = signals.next().await;
    tracing::info!(
        signal.name = name,
        "shutting down: no new connections, requests under way go on"
    );
    shutdown.cancel();
    connections.close();
    running.close();
    let drained = async {
        connections.wait().await;
        running.wait().await;
    };
    let mut patience = LAST_RECORDS;
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep(config.drain()) => {
            tracing::warn!(connections.open = connections.len(), "some requests did not end in time and are cut off");
        }
        name = signals.next() => {
            tracing::warn!(signal.name = name, "told to stop at once: requests under way are cut off");
            patience = LAST_RECORDS_AT_ONCE;
        }
    }
    // With the last recorder gone, its task stores what is left and ends.
    drop(context);
    recording.close();
    if tokio::time::timeout(patience, recording.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            "requests that were cut off still hold the recorder; their calls are not recorded"
        );
    }
    match store.close().await {
        Ok(()) => tracing::info!("stopped"),
        // What was acknowledged is in the log of the database, which the next start works off.
        Err(error) => {
            tracing::warn!(error.message = %error, "stopped; the store could not be tidied up")
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn load_context(
    config: &Config,
    store: &Arc<SqliteStore>,
    ip: IpAddr,
    notice: Option<String>,
    shutdown: &CancellationToken,
    recording: &TaskTracker,
    running: &TaskTracker,
) -> Result<Context> {
    let (endpoints, provider_problems) =
        config::connect(&config.providers, |name| std::env::var(name).ok())?;
    for problem in provider_problems.values() {
        tracing::warn!(%problem, "a provider cannot be used");
    }
    let sources = system::sources();
    let redactor = config.redaction.redactor()?;
    let recorder = Recorder::start(
        Arc::clone(store) as _,
        redactor,
        RecorderOptions::default(),
        recording,
    );
    let table = SharedTable::new(ArcSwap::default());
    let gateway_options = GatewayOptions {
        concurrent_calls: config.limits.concurrent_calls.get(),
        queued_calls: config.limits.queued_calls,
        longest_queue_wait: config.limits.queue_wait.0,
        client_wait: config.limits.client_wait.0,
        // With less, the largest body that is accepted never would be.
        request_bytes: config.limits.request_bytes.max(config.limits.body_bytes),
        on_store_failure: config.on_store_failure.into(),
    };
    let gateway = Gateway::new(
        Arc::clone(&table),
        recorder,
        Arc::clone(store) as _,
        sources.clone(),
        gateway_options,
        running.clone(),
    );
    let shared = Shared {
        state: Arc::clone(store) as _,
        events: Arc::clone(store) as _,
        statistics: Arc::clone(store) as _,
        gateway: Arc::new(gateway),
        table,
        endpoints,
        keys: ArcSwap::default(),
        rate_limiter: RateLimiter::new(config.limits.requests_per_second),
        sources,
        metrics: Some(install_metrics()?),
        options: ServerOptions {
            largest_body: config.limits.body_bytes,
            requests_per_second: config.limits.requests_per_second,
            loopback_only: ip.is_loopback(),
            notice,
            settings: config.in_words(),
            provider_problems,
        },
        reloading: tokio::sync::Mutex::default(),
        sessions: Sessions::default(),
        shutdown: shutdown.clone(),
    };
    Context::load(shared)
        .await
        .context("the state cannot be read")
}

fn install_metrics() -> Result<PrometheusHandle> {
    const SECONDS: [f64; 18] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0,
        8.0, 16.0, 60.0, 300.0,
    ];
    const EVENTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 5000.0];
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(
            Matcher::Full("flywheel_record_group_size".to_owned()),
            &EVENTS,
        )?
        .install_recorder()
        .context("the metrics cannot be started")
}

fn job_options(config: &Config) -> JobOptions {
    JobOptions {
        retain_for: config.retention.age.map(|age| age.0),
        retain_bytes: config.retention.bytes,
        rehearse_every: config.rehearsal.every.map(|every| every.0),
        rehearse_with_probe: config.rehearsal.probe,
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

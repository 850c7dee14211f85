//! `flywheel demo`: the whole loop on an example app, with simulated users, in a folder that is gone afterwards unless it is named.

mod history;
mod story;
mod users;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use flywheel_gateway::clock::Sources;

use crate::config::{Config, ConfigDuration, Kind, Provider};
use crate::printer::Printer;
use crate::serve::{self, Server};

/// See it work: an example app with a week behind it and simulated users, in a temporary folder
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Address to listen on [default: 127.0.0.1:7700, or a free port if that is taken]
    #[arg(long, value_name = "ADDR", value_parser = serve::parse_address)]
    listen: Option<SocketAddr>,
    /// Have a real model answer: the base URL of a server that speaks OpenAI's API, up to and with `/v1`
    #[arg(long, value_name = "URL", requires = "model")]
    provider_url: Option<String>,
    /// The provider's name for that model
    #[arg(long, value_name = "NAME", requires = "provider_url")]
    model: Option<String>,
    /// How many calls the simulated users make in a minute; 0 keeps them away
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=6000))]
    calls_per_minute: u32,
    /// How many calls the week before has, about
    #[arg(long, value_name = "N", default_value_t = 6000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    history: u32,
    /// Keep everything in this folder, which must be new or empty, rather than in one that is gone afterwards
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// The provider of the example app.
const PROVIDER: &str = "demo";

/// About as fast as a hosted model writes.
const PACE: Duration = Duration::from_millis(45);

/// Runs the demo until it is told to stop.
pub(crate) fn run(args: DemoArgs, printer: &Printer, sources: Sources) -> Result<ExitCode> {
    let begun = sources.clock.now();
    let address = match args.listen {
        Some(address) => address,
        None => free_address()?,
    };
    let folder = Folder::prepare(args.data.as_deref())?;
    let config = config(&args);
    serve::start_logging(&config)?;
    let data = serve::open_folder(folder.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")?;
    let model = args.model.as_deref().unwrap_or("simulated");
    let database = data.database();
    runtime.block_on(history::write(&database, model, args.history, &sources))?;
    let kept = match &args.data {
        None => "Nothing here is kept.".to_owned(),
        Some(path) => format!("Kept in {}.", path.display()),
    };
    let notice = match &args.provider_url {
        None => format!("Demo: users, answers and the week behind them are simulated. {kept}"),
        Some(url) => format!(
            "Demo: users and the week behind them are simulated; live calls go to {url}. {kept}"
        ),
    };
    let said = notice.clone();
    let pace = args.calls_per_minute;
    let server = Server {
        config: &config,
        folder: &data,
        address,
        notice: Some(notice),
    };
    let took = sources.clock.now().duration_since(begun).as_secs_f64();
    let outcome = runtime.block_on(server.run(printer, |address, shutdown, tasks| {
        printer.note(&welcome(address, took, &said));
        if pace > 0 {
            tasks.spawn(users::visit(address, pace, sources, shutdown));
        }
    }));
    drop(data);
    if args.data.is_none() {
        printer.note("ended; what it kept in its temporary folder is removed\n");
    }
    outcome
}

/// Where the demo keeps everything.
enum Folder<'a> {
    /// It is removed with this.
    Temporary(tempfile::TempDir),
    Kept(&'a Path),
}

impl<'a> Folder<'a> {
    fn prepare(asked: Option<&'a Path>) -> Result<Self> {
        let Some(path) = asked else {
            let folder = tempfile::Builder::new()
                .prefix("flywheel-demo-")
                .tempdir()
                .context("no temporary folder can be made")?;
            return Ok(Self::Temporary(folder));
        };
        // The week is written into a new store only: what somebody keeps is not for a demo.
        let is_empty = match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => {
                return Err(error).with_context(|| format!("`{}` cannot be read", path.display()));
            }
        };
        if !is_empty {
            bail!(
                "`{}` is not empty; name a new folder, or see it again with `flywheel serve --data {}`",
                path.display(),
                path.display()
            );
        }
        Ok(Self::Kept(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

fn welcome(address: SocketAddr, took: f64, notice: &str) -> String {
    format!(
        "ready in {took:.1} s. {notice} Ctrl-C ends it.\n\n  \
         open    http://{address}/\n\n  \
         A support team's app has a new prompt version since yesterday. Users do not like it: find it and take it back.\n\n  \
         or try  export FLYWHEEL_URL=http://{address}{path}\n          \
         flywheel history {app}\n          \
         flywheel feedback summary --app {app}\n          \
         flywheel deploy {app} --prompt {prompt}@2 --env staging --reason \"what users like\"\n          \
         flywheel rollback {app} --reason \"users dislike it\"\n          \
         flywheel call {app} -v ticket=\"The invoice of May was charged twice.\"\n",
        app = story::APP,
        prompt = story::PROMPT,
        path = path_to_this_program().unwrap_or_default(),
    )
}

/// What lets the commands below be typed as they are, where this program is not on the path yet.
fn path_to_this_program() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let path = std::env::var_os("PATH")?;
    let is_found = std::env::split_paths(&path).any(|known| known.join("flywheel").is_file());
    (!is_found).then(|| format!(" PATH=\"{}:$PATH\"", folder.display()))
}

/// The usual address, so that the commands of the README fit, or another if somebody has it.
fn free_address() -> Result<SocketAddr> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, serve::DEFAULT_PORT));
    match std::net::TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(_) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    }
}

fn config(args: &DemoArgs) -> Config {
    let mut provider = Provider::of_kind(match args.provider_url {
        Some(_) => Kind::OpenAi,
        None => Kind::Simulated,
    });
    provider.base_url.clone_from(&args.provider_url);
    provider.pace = Some(ConfigDuration(PACE));
    let mut config = Config {
        providers: BTreeMap::from([(PROVIDER.to_owned(), provider)]),
        drain: Some(ConfigDuration(Duration::from_secs(3))),
        ..Config::default()
    };
    config.log.filter = Some("warn".to_owned());
    config
}

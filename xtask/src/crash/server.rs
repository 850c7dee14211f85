//! The server as a process: started on a free port, killed, terminated.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::sleep;

use super::client::Client;

/// How long a start may take. It takes a fraction of a second; the rest is for machines that do much else.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(5);

/// What stays from start to start.
pub(super) struct Installation {
    pub(super) binary: PathBuf,
    pub(super) folder: PathBuf,
    /// Whether the binary was given; one from between two releases may lack commands.
    pub(super) is_given: bool,
}

/// A running server, killed when it is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) base: String,
}

impl Installation {
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.folder.join("flywheel.toml")
    }

    /// Starts the server without waiting for it.
    pub(super) fn spawn(&self) -> Result<Server> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .with_context(|| format!("cannot write `{}`", self.log().display()))?;
        let address = free_address()?;
        let child = self
            .command(&["serve", "--listen", &address])
            .arg("--data")
            .arg(self.folder.join("data"))
            .arg("--config")
            .arg(self.configuration())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.binary.display()))?;
        let base = format!("http://{address}");
        Ok(Server { child, base })
    }

    /// Starts the server and waits until it is ready. Tells how long that took.
    pub(super) async fn start(&self) -> Result<(Server, Duration)> {
        let begun = Instant::now();
        let mut server = self.spawn()?;
        let client = Client::new(&server.base);
        loop {
            if client
                .get("/readyz")
                .await
                .is_ok_and(|ready| ready.status == 200)
            {
                return Ok((server, begun.elapsed()));
            }
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "the server did not start ({status}); its log is `{}`",
                    self.log().display()
                );
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "the server was not ready within {PATIENCE:?}"
            );
            sleep(GLANCE).await;
        }
    }

    /// A command of the binary that sees no settings of the person who runs it.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        let ours = std::env::vars_os().filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| name.starts_with("FLYWHEEL_"))
        });
        for (name, _) in ours {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(&self.folder);
        command
    }
}

fn free_address() -> Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?;
    Ok(listener.local_addr()?.to_string())
}

impl Server {
    /// SIGKILL, which leaves the process no moment for anything.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        let status = self.child.wait()?;
        ensure!(
            !status.success() && status.code().is_none(),
            "the server ended by itself before it was killed: {status}"
        );
        Ok(())
    }

    /// SIGKILL, unless it has ended already.
    pub(super) fn make_gone(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, which asks it to come to an end.
    pub(super) fn terminate(&self) -> Result<()> {
        let command = format!("kill -TERM {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status()?;
        ensure!(status.success(), "`{command}` failed: {status}");
        Ok(())
    }

    pub(super) async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                begun.elapsed() < within,
                "the server did not end within {within:?} of SIGTERM"
            );
            sleep(GLANCE).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.make_gone();
    }
}

//! The processes under measurement: started on free ports, ended when they are dropped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a process may take until it accepts connections.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end by itself.
const END: Duration = Duration::from_secs(15);

/// A child process that does not outlive us.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts a command and waits until `address` accepts connections.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        address: SocketAddr,
    ) -> Result<Self> {
        Self::start_within(name, command, address, START)
    }

    /// The same for one that takes its time.
    pub(crate) fn start_within(
        name: &'static str,
        command: &mut Command,
        address: SocketAddr,
        longest: Duration,
    ) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let mut process = Self { name, child };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{name} ended at once: {status}");
            }
            if begun.elapsed() > longest {
                bail!("{name} does not listen on {address}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Seconds of processor time that it and its children have used.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        let id = self.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let mut seconds = used_by(&id.to_string())?;
        for child in children.split_whitespace() {
            seconds += used_by(child)?;
        }
        Ok(seconds)
    }

    fn end(&mut self) -> Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > END {
                self.child.kill()?;
                self.child.wait()?;
                bail!("it did not end by itself");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("warning: {}: {error:#}", self.name);
        }
    }
}

fn used_by(process: &str) -> Result<f64> {
    /// What the kernel calls a tick, on every Linux there is.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name before it may hold anything, spaces too.
    let (_, after_name) = stat.rsplit_once(')').context("unexpected form of `stat`")?;
    let times = after_name.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = times.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// An address on which nobody listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Writes a configuration with the values for what stands between at signs.
pub(crate) fn configure(template: &str, values: &[(&str, String)], path: &Path) -> Result<()> {
    let text = values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("@{name}@"), value)
        });
    std::fs::write(path, text).with_context(|| format!("`{}` cannot be written", path.display()))
}

/// Demands a program that is not ours.
pub(crate) fn must_have(program: &str, package: &str) -> Result<()> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(Into::into);
    let found = std::env::split_paths(&paths)
        .chain(sbin)
        .any(|path| path.join(program).exists());
    if !found {
        bail!("`{program}` is missing: `apt-get install {package}`");
    }
    Ok(())
}

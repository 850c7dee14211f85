//! The test bed: upstream, nginx and the gateway with one app, all on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::connection::Connection;
use super::processes::{Process, configure, free_address, must_have};
use crate::cargo::Workspace;

/// Where OpenAI's clients send chat requests.
pub(super) const CHAT: &str = "/v1/chat/completions";
/// The same through nginx without buffering, as streams need it.
pub(super) const UNBUFFERED_CHAT: &str = "/streams/v1/chat/completions";

const NGINX: &str = include_str!("../../../benches/nginx.conf");
const FLYWHEEL: &str = include_str!("../../../benches/flywheel.toml");
const WRK: &str = include_str!("../../../benches/wrk.lua");

/// The part of the prompt that is the same for every call.
const SYSTEM: &str = "You summarise support tickets for agents who have ten seconds to read. Begin with what the \
customer wants, then what was tried, then what is still open. Keep names of products, order numbers and dates exactly \
as they stand. Say nothing that the ticket does not say, and nothing of the customer's mood. When the ticket holds \
more than one question, give each its own sentence, the most urgent one first. Never answer the customer yourself.";
/// The part that a caller sends.
const TICKET: &str = "Hello, on the third of March I ordered two desk lamps under number 48113-77 and only one came. \
The tracking page says both were delivered at noon, but I was at home and saw the courier hand over a single box. I \
wrote to you twice through the form and was told to wait five working days, which are over since Tuesday. I need the \
second lamp before the twentieth, else I want my money back for it. Please also tell me whether the shade can be \
swapped for the smaller one, since the large one does not fit under our shelf.";

/// Everything that runs while we measure.
pub(super) struct Bed {
    pub(super) seconds: u64,
    pub(super) rounds: usize,
    pub(super) upstream_address: SocketAddr,
    pub(super) nginx_address: SocketAddr,
    pub(super) flywheel_address: SocketAddr,
    pub(super) flywheel: Process,
    /// Two manifests of the app; the second one is deployed.
    pub(super) manifests: [String; 2],
    pub(super) folder: TempDir,
    pub(super) nginx: Process,
    _upstream: Process,
}

impl Bed {
    pub(super) async fn start(workspace: &Workspace, seconds: u64, rounds: usize) -> Result<Self> {
        must_have("nginx", "nginx-light")?;
        must_have("wrk", "wrk")?;
        // Not below /tmp, which may be memory and not a disk.
        let folder = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(&workspace.target)?;
        let built = workspace.in_production();
        let upstream_address = free_address()?;
        let mut command = Command::new(built.join("xtask"));
        command
            .arg("bench-upstream")
            .arg(upstream_address.to_string());
        let upstream = Process::start("upstream", &mut command, upstream_address)?;
        let nginx_address = free_address()?;
        let values = [
            ("FOLDER", folder.path().display().to_string()),
            ("UPSTREAM", upstream_address.to_string()),
            ("LISTEN", nginx_address.to_string()),
        ];
        let config = folder.path().join("nginx.conf");
        configure(NGINX, &values, &config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&config);
        let nginx = Process::start("nginx", &mut command, nginx_address)?;
        let flywheel_address = free_address()?;
        let config = folder.path().join("flywheel.toml");
        configure(FLYWHEEL, &values, &config)?;
        let mut command = Command::new(built.join("flywheel"));
        command
            .arg("serve")
            .arg("--data")
            .arg(folder.path().join("data"));
        command
            .args(["--listen", &flywheel_address.to_string()])
            .arg("--config")
            .arg(&config);
        let flywheel = Process::start("flywheel", &mut command, flywheel_address)?;
        let manifests = seed(flywheel_address)
            .await
            .context("the app could not be made")?;
        Ok(Self {
            seconds,
            rounds,
            upstream_address,
            nginx_address,
            flywheel_address,
            flywheel,
            manifests,
            folder,
            nginx,
            _upstream: upstream,
        })
    }

    /// Writes a file for a tool to read.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    pub(super) fn wrk_script(&self) -> Result<PathBuf> {
        self.write("wrk.lua", WRK.as_bytes())
    }
}

fn content(description: &str) -> Value {
    json!({
        "template_format": "fstring",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": format!("{description}: {{ticket}}")},
        ],
        "model_id": "bench",
        "model_version": "1",
        "params": {"temperature": 0.2, "max_tokens": 300},
    })
}

/// The request as the gateway's callers send it. `further` members go to the provider.
pub(super) fn app_request(further: &Value) -> Bytes {
    let request = json!({
        "model": "flywheel/bench",
        "user": "user-4711",
        "flywheel": {"variables": {"ticket": TICKET}, "session": "s-1"},
    });
    body(request, further)
}

/// The request as the provider gets it, for nginx to pass on.
pub(super) fn provider_request(further: &Value) -> Bytes {
    let request = json!({
        "model": "bench-model",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": format!("The ticket: {TICKET}")},
        ],
        "user": "user-4711",
        "temperature": 0.2,
        "max_tokens": 300,
    });
    body(request, further)
}

fn body(mut request: Value, further: &Value) -> Bytes {
    for (name, value) in further.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    request.to_string().into()
}

async fn seed(address: SocketAddr) -> Result<[String; 2]> {
    let mut connection = Connection::open(address).await?;
    let model = json!({
        "model_id": "bench", "model_version": "1", "provider": "bench",
        "provider_model": "bench-model", "price": {"input": 0.15, "output": 0.6},
    });
    let prompts = ["Summarise", "The ticket"]
        .map(|text| json!({"prompt": "ticket", "description": text, "content": content(text)}));
    connection
        .call(
            "POST",
            "/api/v1/push",
            &json!({"models": [model], "prompts": prompts}),
        )
        .await?;
    connection
        .call("PUT", "/api/v1/apps/bench", &json!({}))
        .await?;
    let mut manifests = [String::new(), String::new()];
    for (ordinal, manifest) in (1..).zip(&mut manifests) {
        let wanted = json!({
            "prompt": "ticket", "version": ordinal.to_string(), "reason": "bench",
            "environment": "production",
        });
        let deployed = connection
            .call("POST", "/api/v1/apps/bench/deploy", &wanted)
            .await?;
        *manifest = deployed["manifest"]["id"]
            .as_str()
            .context("no manifest")?
            .to_owned();
    }
    Ok(manifests)
}

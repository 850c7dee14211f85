//! What the rounds work on: a prompt in two versions, apps, and the first deployments.

use std::fs;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use hyper::Method;
use serde_json::{Value, json};

use super::Durability;
use super::client::Client;
use super::ledger::{Ledger, Register, SentMove};
use super::load::{APPS, LABEL, PROMPT, lock, must};
use super::server::Installation;
use super::upstream::Upstream;

pub(super) fn configure(
    installation: &Installation,
    durability: Durability,
    upstream: &Upstream,
) -> Result<()> {
    let durability = match durability {
        Durability::Process => "process",
        Durability::Disk => "disk",
    };
    let address = upstream.address;
    let text = format!(
        "durability = \"{durability}\"\n\
         [providers.fake]\n\
         kind = \"openai\"\n\
         base_url = \"http://{address}/v1\"\n"
    );
    let path = installation.configuration();
    fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Fills a new server, and returns the two manifests.
pub(super) async fn fill(client: &Client, ledger: &Mutex<Ledger>) -> Result<[String; 2]> {
    let body = json!({
        "models": [{"model_id": "fake", "model_version": "1", "provider": "fake"}],
        "prompts": [
            {"prompt": PROMPT, "content": content("Say {token}")},
            {"prompt": PROMPT, "content": content("Say again {token}")},
        ],
    });
    must(client.post("/api/v1/push", &body), "the push").await?;
    let mut manifests = [String::new(), String::new()];
    for app in APPS {
        let path = format!("/api/v1/apps/{app}");
        must(put(client, &path, &json!({})), "making an app").await?;
        for (version, manifest) in ["1", "2"].into_iter().zip(&mut manifests) {
            let reason = format!("setup-{app}-{version}");
            let body = json!({"prompt": PROMPT, "version": version, "reason": reason});
            let answer = must(client.post(&format!("{path}/deploy"), &body), &reason).await?;
            let deployment = &answer["deployment"];
            let id = deployment["manifest"].as_str();
            id.context("a deployment without a manifest")?
                .clone_into(manifest);
            let number = deployment["number"]
                .as_u64()
                .context("a deployment without a number")?;
            let sent = SentMove {
                app,
                outcome: Some((number, manifest.clone())),
                ..SentMove::default()
            };
            lock(ledger).moves.insert(reason, sent);
        }
    }
    let path = format!("/api/v1/prompts/{PROMPT}/labels/{LABEL}");
    must(
        put(client, &path, &json!({"version": "1"})),
        "setting a label",
    )
    .await?;
    let register = Register {
        known: "1".to_owned(),
        awaited: None,
    };
    lock(ledger).registers.insert(LABEL.to_owned(), register);
    Ok(manifests)
}

fn content(template: &str) -> Value {
    json!({
        "template_format": "fstring",
        "messages": [{"role": "user", "content": template}],
        "model_id": "fake",
        "model_version": "1",
    })
}

async fn put(
    client: &Client,
    path: &str,
    body: &Value,
) -> Result<super::client::Answer, super::client::Gone> {
    client
        .send(Method::PUT, path, None, body.to_string().into())
        .await
}

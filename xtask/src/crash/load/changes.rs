//! Changes of the state: deployments, rollbacks, labels, experiments.

use hyper::Method;
use serde_json::{Value, json};

use super::super::client::{Answer, Gone};
use super::super::ledger::{SentMove, Violation};
use super::{CONTESTED, DEPLOYED, LABEL, PROMPT, ROLLED_BACK, TESTED, Worker};

/// Where a pointer stands.
struct Pointer {
    manifest: String,
    kind: String,
}

impl Worker {
    /// Deploys the other of the two manifests; nobody else moves this app.
    pub(super) async fn deploy(&mut self) -> Result<(), Gone> {
        let pointer = self.pointer(DEPLOYED).await?;
        let other = self.other(&pointer.manifest);
        self.move_app(DEPLOYED, "deploy", &pointer, json!({"manifest": other}))
            .await
    }

    /// Deploys and rolls back in turns; nobody else moves this app.
    pub(super) async fn deploy_or_roll_back(&mut self) -> Result<(), Gone> {
        let pointer = self.pointer(ROLLED_BACK).await?;
        let other = self.other(&pointer.manifest);
        let (verb, body) = match (pointer.kind.as_str(), self.random.one_in(2)) {
            ("deploy", true) => ("rollback", json!({})),
            ("deploy", false) => ("rollback", json!({"to": &other[..12]})),
            _ => ("deploy", json!({"manifest": &other[..12]})),
        };
        self.move_app(ROLLED_BACK, verb, &pointer, body).await
    }

    /// Deploys while another worker does the same; only one of both may believe it did.
    pub(super) async fn contest(&mut self) -> Result<(), Gone> {
        let pointer = self.pointer(CONTESTED).await?;
        let other = self.other(&pointer.manifest);
        self.move_app(CONTESTED, "deploy", &pointer, json!({"manifest": other}))
            .await
    }

    async fn pointer(&self, app: &str) -> Result<Pointer, Gone> {
        let answer = self.client().get(&format!("/api/v1/apps/{app}")).await?;
        let current = &answer.body["current"][0];
        let text = |name: &str| current[name].as_str().unwrap_or_default().to_owned();
        Ok(Pointer {
            manifest: text("manifest"),
            kind: text("kind"),
        })
    }

    fn other(&self, manifest: &str) -> String {
        let [first, second] = &*self.shared.manifests;
        if manifest == first { second } else { first }.clone()
    }

    async fn move_app(
        &mut self,
        app: &'static str,
        verb: &str,
        pointer: &Pointer,
        mut body: Value,
    ) -> Result<(), Gone> {
        let reason = self.token();
        body["reason"] = reason.as_str().into();
        body["expected_manifest"] = pointer.manifest.as_str().into();
        let sent = SentMove {
            round: self.shared.round,
            app,
            ..SentMove::default()
        };
        self.ledger().send_move(&reason, sent);
        let path = format!("/api/v1/apps/{app}/{verb}");
        let answer = self.client().post(&path, &body).await?;
        if app == CONTESTED && answer.status == 409 && answer.body["code"] == "lost_race" {
            let mut ledger = self.ledger();
            ledger.tally.lost_races += 1;
            if let Some(sent) = ledger.moves.get_mut(&reason) {
                sent.refused = true;
            }
            return Ok(());
        }
        if !answer.is_success() {
            self.unexpected(&format!("{verb} `{reason}`"), &answer);
            return Ok(());
        }
        let manifest = self.other(&pointer.manifest);
        self.take_move(&reason, &answer, pointer, &manifest);
        if app == CONTESTED {
            return Ok(());
        }
        self.check_in_force(app, &reason, &manifest).await
    }

    fn take_move(&self, reason: &str, answer: &Answer, pointer: &Pointer, manifest: &str) {
        let deployment = &answer.body["deployment"];
        let mut ledger = self.ledger();
        let is_ours = deployment["reason"] == reason
            && deployment["manifest"] == manifest
            && deployment["previous_manifest"] == pointer.manifest.as_str();
        if !is_ours {
            let text = format!("deployment `{reason}` was answered {}", answer.body);
            ledger.violate(Violation::wrong(text));
        }
        let number = deployment["number"].as_u64().unwrap_or_default();
        ledger.acknowledge_move(self.name, reason, number, manifest);
    }

    /// A request after the acknowledgement is served by what was deployed.
    async fn check_in_force(&self, app: &str, reason: &str, manifest: &str) -> Result<(), Gone> {
        let path = format!("/api/v1/apps/{app}/resolve");
        let body = json!({"variables": {"token": "x"}});
        let answer = self.client().post(&path, &body).await?;
        if answer.body["manifest"] != manifest {
            let served = &answer.body;
            let text = format!("after deployment `{reason}`, `{app}` serves {served}");
            self.ledger().violate(Violation::wrong(text));
        }
        Ok(())
    }

    pub(super) async fn move_label(&mut self) -> Result<(), Gone> {
        let is_on_first = {
            let ledger = self.ledger();
            ledger
                .registers
                .get(LABEL)
                .is_some_and(|label| label.known == "1")
        };
        let version = if is_on_first { "2" } else { "1" };
        let path = format!("/api/v1/prompts/{PROMPT}/labels/{LABEL}");
        let body = json!({"version": version});
        self.change(LABEL, version, Method::PUT, &path, body).await
    }

    /// The next step in an experiment's life: made, started, changed a few times, stopped, and then the next one.
    pub(super) async fn change_experiment(&mut self) -> Result<(), Gone> {
        let last = {
            let ledger = self.ledger();
            let experiments = ledger.registers.iter();
            let experiments = experiments.filter_map(|(name, register)| {
                let number = name.strip_prefix("experiment-")?.parse::<u32>().ok()?;
                Some((number, register.known.clone()))
            });
            experiments.max_by_key(|(number, _)| *number)
        };
        let (number, known) = last.unwrap_or((0, "stopped 0".to_owned()));
        let (status, exposure) = known.split_once(' ').unwrap_or(("", "0"));
        let name = format!("experiment-{number}");
        let path = format!("/api/v1/experiments/{name}");
        match status {
            "draft" => {
                let value = format!("running {exposure}");
                let path = format!("{path}/start");
                self.change(&name, &value, Method::POST, &path, json!({}))
                    .await
            }
            "running" if self.random.one_in(6) => {
                let value = format!("stopped {exposure}");
                let path = format!("{path}/stop");
                let body = json!({"reason": "seen enough"});
                self.change(&name, &value, Method::POST, &path, body).await
            }
            "running" => {
                // Never the same twice in a row, so that it can be told whether a change was made.
                let half = if exposure.parse().is_ok_and(|now: u64| now <= 5000) {
                    5001
                } else {
                    1
                };
                let exposure = self.random.within(half..half + 5000);
                let value = format!("running {exposure}");
                let body = json!({"exposure": exposure});
                self.change(&name, &value, Method::PATCH, &path, body).await
            }
            // A making that was cut off, and did not happen, is made again.
            "" => self.make_experiment(number).await,
            _ => self.make_experiment(number + 1).await,
        }
    }

    async fn make_experiment(&mut self, number: u32) -> Result<(), Gone> {
        let [first, second] = &*self.shared.manifests;
        let name = format!("experiment-{number}");
        let body = json!({
            "name": name,
            "app": TESTED,
            "exposure": 5000,
            "arms": [
                {"name": "a", "manifest": first, "weight": 5000},
                {"name": "b", "manifest": second, "weight": 5000},
            ],
        });
        let path = "/api/v1/experiments";
        self.change(&name, "draft 5000", Method::POST, path, body)
            .await
    }

    async fn change(
        &self,
        register: &str,
        value: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<(), Gone> {
        self.ledger().send_change(register, value);
        let body = body.to_string().into();
        let answer = self.client().send(method, path, None, body).await?;
        if answer.is_success() {
            self.ledger().acknowledge_change(register);
        } else {
            self.unexpected(&format!("changing `{register}` to `{value}`"), &answer);
        }
        Ok(())
    }
}
